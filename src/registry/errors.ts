// The one error class of registries, and the one table of codes: those of the distribution spec ("Error Codes") first, then ours
// for what happens on the way.

/** HTTP status by which the embedded server answers each code. */
export const statusOfCode = {
  BLOB_UNKNOWN: 404,
  BLOB_UPLOAD_INVALID: 400,
  BLOB_UPLOAD_UNKNOWN: 404,
  DIGEST_INVALID: 400,
  MANIFEST_BLOB_UNKNOWN: 400,
  MANIFEST_INVALID: 400,
  MANIFEST_UNKNOWN: 404,
  NAME_INVALID: 400,
  NAME_UNKNOWN: 404,
  SIZE_INVALID: 400,
  UNAUTHORIZED: 401,
  DENIED: 403,
  UNSUPPORTED: 405,
  TOOMANYREQUESTS: 429,
  RANGE_INVALID: 416,
  /** The number of items wanted on a page is not one; Docker's code. */
  PAGINATION_NUMBER_INVALID: 400,
  /** A tag that is not one. */
  TAG_INVALID: 400,
  /** A request or an answer with more bytes than allowed. */
  TOO_LARGE: 413,
  /** The registry said something that the spec does not allow: garbage, the wrong range, the wrong digest. */
  RESPONSE_INVALID: 502,
  /** The body ended before its announced end. */
  TRUNCATED: 502,
  /** No connection, or it broke before an answer. */
  UNREACHABLE: 502,
  /** A certificate that is not trusted: theirs by us, or ours by them. */
  UNTRUSTED: 502,
  /** The registry did not answer, or stopped sending, within the time limit. */
  TIMEOUT: 504,
  /** 408 or 5xx. */
  UNAVAILABLE: 503,
  /** Docker's configuration or a credential helper could not be used. */
  CREDENTIALS_INVALID: 500,
  /** What says how to reach a registry cannot be used: hosts.toml, a certificate file, the address of a proxy. */
  CONFIG_INVALID: 500,
  UNKNOWN: 500,
} as const;

export type RegistryErrorCode = keyof typeof statusOfCode;

export interface RegistryErrorFacts extends ErrorOptions {
  /** The HTTP status the registry answered with, when it answered. */
  readonly status?: number | undefined;
  readonly retryAfterMs?: number | undefined;
  /** The `detail` of the wire error, any JSON. */
  readonly detail?: unknown;
  readonly retried?: boolean | undefined;
  readonly away?: boolean | undefined;
}

/** Callers switch on `code`. The message names the object (digest, tag, repository, URL without query) and what went wrong. */
export class RegistryError extends Error {
  override readonly name = 'RegistryError';
  readonly code: RegistryErrorCode;
  readonly status: number | undefined;
  readonly retryAfterMs: number | undefined;
  readonly detail: unknown;
  /** Something within the request was tried again already, as often as the policy allows. */
  readonly retried: boolean;
  /** Nothing was sent: the endpoint is left alone after failures. */
  readonly away: boolean;

  constructor(code: RegistryErrorCode, message: string, facts: RegistryErrorFacts = {}) {
    super(message, facts.cause === undefined ? undefined : { cause: facts.cause });
    this.code = code;
    this.status = facts.status;
    this.retryAfterMs = facts.retryAfterMs;
    this.detail = facts.detail;
    this.retried = facts.retried ?? false;
    this.away = facts.away ?? false;
  }

  /** Whether the same request may succeed a little later. */
  get retryable(): boolean {
    return retryableCodes.has(this.code);
  }

  /** The same error of something that was `retried`. */
  afterRetries(): RegistryError {
    const { code, message, status, retryAfterMs, detail, cause, away } = this;
    return new RegistryError(code, message, { status, retryAfterMs, detail, cause, away, retried: true });
  }
}

const retryableCodes: ReadonlySet<RegistryErrorCode> = new Set<RegistryErrorCode>([
  'TOOMANYREQUESTS',
  'TRUNCATED',
  'UNREACHABLE',
  'TIMEOUT',
  'UNAVAILABLE',
]);

export function isRegistryErrorCode(text: string): text is RegistryErrorCode {
  return Object.hasOwn(statusOfCode, text);
}

/** Whether `error` is a RegistryError with one of `codes`. */
export function hasCode(error: unknown, ...codes: readonly RegistryErrorCode[]): error is RegistryError {
  return error instanceof RegistryError && codes.includes(error.code);
}
