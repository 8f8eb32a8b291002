const unitMs: Readonly<Record<string, number>> = {
  ns: 1e-6,
  us: 1e-3,
  µs: 1e-3,
  μs: 1e-3,
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
};

/** A time as Go's `time.ParseDuration` takes it (`12h`, `1h30m`, `0s`, `1.5h`) in ms; undefined when it is none. */
export function parseGoDuration(text: string): number | undefined {
  const [, sign = '', body = ''] = /^([+-]?)(.*)$/s.exec(text) ?? [];
  if (body === '0') return 0;
  if (body.length > 100 || !/^(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+$/.test(body)) return undefined;
  let total = 0;
  for (const [, amount, unit] of body.matchAll(/([\d.]+)([a-zµμ]+)/g))
    total += Number(amount) * (unitMs[unit ?? ''] ?? 0);
  return sign === '-' ? -total : total;
}
