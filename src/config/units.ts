// Times and sizes as people write them.
import { z } from 'zod';

const timeUnits: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 };
const sizeUnits: Readonly<Record<string, number>> = { B: 1, KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3, TiB: 1024 ** 4 };

/** How a value of such a key is written in a file, in its largest unit without a fraction. */
export const writtenForms = z.registry<{ readonly write: (value: number) => string }>();

/** `500ms`, `30s`, `2m`, `1h` → ms. */
export const duration = unit(timeUnits, {
  expected: 'a time from "1ms" to "168h" such as "30s" (ms, s, m, h)',
  min: 1,
  max: 7 * 24 * 3_600_000,
});

/** `64MiB`, `1GiB`, `0B` → bytes. */
export const byteSize = unit(sizeUnits, {
  expected: 'a size such as "64MiB" (B, KiB, MiB, GiB, TiB)',
  min: 0,
  max: Number.MAX_SAFE_INTEGER,
});

/** `byteSize` with a lowest and a highest value, which `expected` names. */
export function byteSizeWithin(limits: UnitLimits): z.ZodType<number, string> {
  return unit(sizeUnits, limits);
}

interface UnitLimits {
  readonly expected: string;
  readonly min: number;
  readonly max: number;
}

function unit(units: Readonly<Record<string, number>>, { expected, min, max }: UnitLimits): z.ZodType<number, string> {
  const schema = z.string(expected).transform((text, context) => {
    const [, digits, name] = /^(\d+)([A-Za-z]+)$/.exec(text) ?? [];
    const factor = name !== undefined && Object.hasOwn(units, name) ? units[name] : undefined;
    const value = factor === undefined ? Number.NaN : Number(digits) * factor;
    if (value >= min && value <= max) return value;
    context.addIssue({ code: 'custom', message: expected });
    return z.NEVER;
  });
  const largestFirst = Object.entries(units).sort(([, a], [, b]) => b - a);
  const write = (value: number): string => {
    const [name = '', factor = 1] = largestFirst.find(([, size]) => value >= size && value % size === 0) ?? [];
    return name === '' ? `0${largestFirst.at(-1)?.[0] ?? ''}` : `${value / factor}${name}`;
  };
  return schema.register(writtenForms, { write });
}
