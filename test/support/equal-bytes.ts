// Comparing bytes as bytes: vitest's own comparison of two buffers looks at every element as a property, which takes seconds for a megabyte.
import { expect } from 'vitest';

function equalBytes(a: unknown, b: unknown): boolean | undefined {
  if (!(a instanceof Uint8Array) || !(b instanceof Uint8Array)) return undefined;
  return a.byteLength === b.byteLength && Buffer.compare(a, b) === 0;
}

expect.addEqualityTesters([equalBytes]);
