// How much a registry still lets us pull: Docker Hub's headers (docs.docker.com, "Pull rate limit") and their older x- form.

export interface RateLimit {
  /** Requests allowed in a window, and how many of them are left. */
  readonly limit: number;
  readonly remaining: number;
  readonly windowSeconds: number | undefined;
  /** What the registry counts by: an address or an account. */
  readonly source: string | undefined;
}

/** Undefined unless limit and remainder are both told. */
export function parseRateLimit(header: (name: string) => string | undefined): RateLimit | undefined {
  const limit = parseQuota(header('ratelimit-limit') ?? header('x-ratelimit-limit'));
  const remaining = parseQuota(header('ratelimit-remaining') ?? header('x-ratelimit-remaining'));
  if (limit === undefined || remaining === undefined) return undefined;
  const source = header('docker-ratelimit-source');
  return {
    limit: limit.count,
    remaining: remaining.count,
    windowSeconds: limit.windowSeconds ?? remaining.windowSeconds,
    source: source !== undefined && /^[\x21-\x7e]{1,200}$/.test(source) ? source : undefined,
  };
}

/** `100;w=21600`, `100` or a list that begins so. */
function parseQuota(text: string | undefined) {
  const match = /^\s*(\d{1,15})(?:\s*;\s*w=(\d{1,10}))?\s*(?:[;,]|$)/.exec(text ?? '');
  if (match === null) return undefined;
  return { count: Number(match[1]), windowSeconds: match[2] === undefined ? undefined : Number(match[2]) };
}
