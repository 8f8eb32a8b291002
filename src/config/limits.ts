// Limits that are more than one number.
import { byteSize } from './units.ts';

/** A size in bytes, or a percentage of the file system. */
export type CacheLimit = { readonly bytes: number } | { readonly percent: number };

/** `100GiB` or `80%`; undefined for anything else. */
export function parseCacheLimit(text: string): CacheLimit | undefined {
  const percent = Number(/^(\d{1,3})%$/.exec(text)?.[1] ?? Number.NaN);
  if (percent >= 1 && percent <= 100) return { percent };
  const { success, data } = byteSize.safeParse(text);
  return success ? { bytes: data } : undefined;
}

/** Minutes after midnight, local time; `to` before `from` is the next day. */
export interface DayHours {
  readonly from: number;
  readonly to: number;
}

/** `22:00-06:00`; undefined for anything else. */
export function parseDayHours(text: string): DayHours | undefined {
  const [, fromHour, fromMinute, toHour, toMinute] = /^(\d\d):(\d\d)-(\d\d):(\d\d)$/.exec(text) ?? [];
  const minutes = (hour = '', minute = '') =>
    Number(hour) < 24 && Number(minute) < 60 ? Number(hour) * 60 + Number(minute) : undefined;
  const from = minutes(fromHour, fromMinute);
  const to = minutes(toHour, toMinute);
  return fromHour === undefined || from === undefined || to === undefined || from === to ? undefined : { from, to };
}

export function isWithin({ from, to }: DayHours, minute: number): boolean {
  return from < to ? minute >= from && minute < to : minute >= from || minute < to;
}
