import { expect, it } from 'vitest';
import { crc32c } from '../../src/tree/erofs/crc32c.ts';

it('crc32c agrees with the check value of the algorithm, up to the final inversion', () => {
  expect(~crc32c(Buffer.from('123456789')) >>> 0).toBe(0xe3069283);
});
