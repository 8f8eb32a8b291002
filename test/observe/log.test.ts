import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { createLog } from '../../src/observe/log.ts';
import { tempDir } from '../support/tmp.ts';

describe('createLog', () => {
  it('writes a line of JSON at once, with who says it, and no secret', () => {
    const file = join(tempDir(), 'log');
    const log = createLog({ level: 'info', to: file }).child({ component: 'layer' });
    log.warn({ digest: 'sha256:1', token: 'secret' }, 'index is ignored');
    expect(JSON.parse(readFileSync(file, 'utf8'))).toMatchObject({
      level: 40,
      component: 'layer',
      digest: 'sha256:1',
      token: '[Redacted]',
      msg: 'index is ignored',
      time: expect.stringMatching(/^\d{4}-\d\d-\d\dT/),
    });
  });

  it.each([
    ['debug', ['debug', 'info', 'warn', 'error']],
    ['info', ['info', 'warn', 'error']],
    ['error', ['error']],
    ['fatal', []],
    ['silent', []],
  ])('at level %s writes %j', (level, expected) => {
    const file = join(tempDir(), 'log');
    const log = createLog({ level, to: file });
    for (const name of ['debug', 'info', 'warn', 'error'] as const) log.child({ deep: true })[name]({}, name);
    const written = expected.length === 0 ? '' : readFileSync(file, 'utf8');
    expect([...written.matchAll(/"msg":"(\w+)"/g)].map(([, name]) => name)).toEqual(expected);
  });
});
