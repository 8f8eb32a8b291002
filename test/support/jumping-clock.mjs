// For `node --import`: the wall clock goes wrong by as many ms as a file says; the one that only counts does not.
import { readFileSync } from 'node:fs';

const file = process.env['PEEL_TEST_CLOCK'];
const Real = globalThis.Date;
let offset = 0;
setInterval(() => {
  try {
    offset = Number(readFileSync(file, 'utf8'));
  } catch {
    // Nothing is said yet.
  }
}, 20).unref();

globalThis.Date = class Jumping extends Real {
  constructor(...args) {
    if (args.length === 0) super(Real.now() + offset);
    else super(...args);
  }

  static now() {
    return Real.now() + offset;
  }
};
