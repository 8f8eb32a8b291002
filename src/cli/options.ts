// Values of options, parsed once; a bad one is a usage error that names the option's text.
import { InvalidArgumentError } from 'commander';

const sizeUnits: Record<string, number> = { '': 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30, t: 2 ** 40 };

/** `4194304`, `4MiB`, `4M`, `512k` → bytes. */
export function parseSize(text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?$/i.exec(text.trim());
  const bytes = Math.floor(Number(match?.[1]) * (sizeUnits[match?.[2]?.toLowerCase() ?? ''] ?? Number.NaN));
  if (!Number.isSafeInteger(bytes)) throw new InvalidArgumentError('expected a size like 256KiB or 4MiB');
  return bytes;
}

const durationUnits: Record<string, number> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** `90s`, `15m`, `1.5h`, `7d` → ms. */
export function parseDuration(text: string): number {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/.exec(text.trim());
  const ms = Math.round(Number(match?.[1]) * (durationUnits[match?.[2] ?? ''] ?? Number.NaN));
  if (!Number.isSafeInteger(ms)) throw new InvalidArgumentError('expected a duration like 90s, 15m, 12h or 7d');
  return ms;
}

/** Not empty, as an unset variable in a script would make it: that would name the working directory. */
export function parseDirectory(text: string): string {
  if (text === '') throw new InvalidArgumentError('expected a directory');
  return text;
}

/** Not empty, for the same reason. */
export function parseFile(text: string): string {
  if (text === '') throw new InvalidArgumentError('expected a file');
  return text;
}

/** A count from 0 up. */
export function parseCount(text: string): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(value)) throw new InvalidArgumentError('expected a whole number');
  return value;
}

/** How many things may be under way at once. */
export function parseJobs(text: string): number {
  const count = parseCount(text);
  if (count < 1 || count > 64) throw new InvalidArgumentError('expected a number from 1 to 64');
  return count;
}
