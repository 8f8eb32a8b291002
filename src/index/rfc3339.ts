// RFC 3339 date-times as Go's time.Time writes them as text (RFC3339Nano): the fraction has no trailing zeros.

export interface Instant {
  /** Seconds since the epoch, may be negative. */
  readonly seconds: number;
  /** 0..999999999. */
  readonly nanoseconds: number;
}

const pattern = /^(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9})\d*)?(?:Z|([+-])(\d\d):(\d\d))$/;
const daySeconds = 86_400;
/** 0000-01-01 and 10000-01-01: what four digits of year can say. */
const firstSecond = -62_167_219_200;
const endSecond = 253_402_300_800;

/** undefined when `text` is not a date-time. */
export function parseRfc3339(text: string): Instant | undefined {
  const match = pattern.exec(text);
  if (match === null) return undefined;
  const [, year, month, day, hour, minute, second, fraction = '', sign, zoneHour = '0', zoneMinute = '0'] = match;
  const days = daysFromCivil(Number(year), Number(month), Number(day));
  if (days === undefined || Number(hour) > 23 || Number(minute) > 59 || Number(second) > 59) return undefined;
  if (Number(zoneHour) > 23 || Number(zoneMinute) > 59) return undefined;
  const zone = (Number(zoneHour) * 60 + Number(zoneMinute)) * 60 * (sign === '-' ? -1 : 1);
  const seconds = days * daySeconds + Number(hour) * 3600 + Number(minute) * 60 + Number(second) - zone;
  return { seconds, nanoseconds: Number(fraction.padEnd(9, '0')) };
}

/** In UTC; undefined when the year does not have four digits. */
export function formatRfc3339(instant: Instant): string | undefined {
  if (instant.seconds < firstSecond || instant.seconds >= endSecond) return undefined;
  const whole = new Date(instant.seconds * 1000).toISOString().slice(0, 19);
  const fraction = instant.nanoseconds === 0 ? '' : `.${String(instant.nanoseconds).padStart(9, '0')}`;
  return `${whole}${fraction.replace(/0+$/, '')}Z`;
}

/** Days since the epoch in the Gregorian calendar; undefined when there is no such day. */
function daysFromCivil(year: number, month: number, day: number): number | undefined {
  if (month < 1 || month > 12 || day < 1 || day > daysInMonth(year, month)) return undefined;
  const shifted = month <= 2 ? year - 1 : year;
  const era = Math.floor(shifted / 400);
  const yearOfEra = shifted - era * 400;
  const dayOfYear = Math.floor((153 * (month > 2 ? month - 3 : month + 9) + 2) / 5) + day - 1;
  const dayOfEra = yearOfEra * 365 + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100) + dayOfYear;
  return era * 146_097 + dayOfEra - 719_468;
}

function daysInMonth(year: number, month: number): number {
  if (month !== 2) return month === 4 || month === 6 || month === 9 || month === 11 ? 30 : 31;
  return year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0) ? 29 : 28;
}
