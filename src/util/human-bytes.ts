const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];

/** Bytes for people: `999 B`, `1.5 KiB`, `320 MiB`. */
export function humanBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  // 1023.96 KiB would print as 1024 KiB.
  if (unit > 0 && value >= 1023.5 && unit < units.length - 1) return `1.0 ${units[unit + 1]}`;
  const text = unit === 0 ? String(value) : value < 9.95 ? value.toFixed(1) : value.toFixed(0);
  return `${text} ${units[unit]}`;
}
