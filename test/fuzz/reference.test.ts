import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { OciError } from '../../src/oci/errors.ts';
import { formatReference, parseReference } from '../../src/oci/reference.ts';

const fragment = fc.oneof(
  fc.constantFrom(
    'oci:',
    'oci-archive:',
    '/',
    ':',
    '@',
    '.',
    '-',
    '_',
    '[',
    ']',
    'localhost',
    'docker.io',
    `sha256:${'0'.repeat(64)}`,
    'A',
    '5000',
    '\0',
    ' ',
  ),
  fc.string({ maxLength: 4, unit: 'grapheme-composite' }),
  fc.stringMatching(/^[a-z0-9]{1,5}$/),
);
const text = fc.array(fragment, { maxLength: 12 }).map((parts) => parts.join(''));

describe('parseReference on anything', () => {
  it('gives a reference that reads back as itself, or an OciError', () => {
    fc.assert(
      fc.property(text, (input) => {
        let reference;
        try {
          reference = parseReference(input);
        } catch (error) {
          expect(error).toBeInstanceOf(OciError);
          return;
        }
        expect(parseReference(formatReference(reference))).toEqual(reference);
      }),
      { numRuns: 5_000 },
    );
  });
});
