// Times and sizes as people write them.
import { z } from 'zod';

const timeUnits: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 };
const sizeUnits: Readonly<Record<string, number>> = { B: 1, KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3, TiB: 1024 ** 4 };

/** `500ms`, `30s`, `2m`, `1h` → ms. */
export const duration = unit(timeUnits, 'a time such as "30s" (ms, s, m, h)', 7 * 24 * 3_600_000);

/** `64MiB`, `1GiB`, `0B` → bytes. */
export const byteSize = unit(sizeUnits, 'a size such as "64MiB" (B, KiB, MiB, GiB, TiB)', Number.MAX_SAFE_INTEGER);

function unit(units: Readonly<Record<string, number>>, expected: string, max: number): z.ZodType<number, string> {
  return z.string(`expected ${expected}`).transform((text, context) => {
    const [, digits, name] = /^(\d+)([A-Za-z]+)$/.exec(text) ?? [];
    const factor = name === undefined ? undefined : units[name];
    const value = factor === undefined ? Number.NaN : Number(digits) * factor;
    if (value <= max) return value;
    context.addIssue({ code: 'custom', message: `expected ${expected}, not ${JSON.stringify(text)}` });
    return z.NEVER;
  });
}
