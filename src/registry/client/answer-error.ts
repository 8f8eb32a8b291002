// From an HTTP answer that is not the expected one to a RegistryError (distribution spec, "Error Codes").
import { parseRetryAfter } from '../../util/backoff.ts';
import { RegistryError, isRegistryErrorCode } from '../errors.ts';
import type { RegistryErrorCode } from '../errors.ts';
import type { HttpResponse } from './http.ts';

/** What the path was about, to know what a 404 without a body means. */
export type Subject = 'blob' | 'manifest' | 'upload' | 'repository' | 'other';

const notFoundCode: Readonly<Record<Subject, RegistryErrorCode>> = {
  blob: 'BLOB_UNKNOWN',
  manifest: 'MANIFEST_UNKNOWN',
  upload: 'BLOB_UPLOAD_UNKNOWN',
  repository: 'NAME_UNKNOWN',
  other: 'UNKNOWN',
};

const longestMessage = 300;

/** `what` names the object for the message: `manifest library/debian:12 at docker.io`. `known`: the code, where more than the answer tells it. */
export function answerError(
  response: HttpResponse,
  body: Uint8Array,
  what: string,
  subject: Subject = 'other',
  known?: RegistryErrorCode,
): RegistryError {
  const { status } = response;
  const wire = parseWireError(body);
  const code = known ?? codeOf(status, wire?.code, subject);
  const said = wire?.message === undefined || wire.message === '' ? '' : ` (${printable(wire.message)})`;
  // A time counts by the registry's own clock: ours may be years off.
  const sentAt = Date.parse(response.header('date') ?? '');
  const now = Number.isNaN(sentAt) ? Date.now() : sentAt;
  const retryAfterMs = parseRetryAfter(response.header('retry-after'), now);
  return new RegistryError(code, `${what}: ${describe(status, code)}${said}`, {
    status,
    retryAfterMs,
    detail: wire?.detail,
  });
}

function codeOf(status: number, wireCode: string | undefined, subject: Subject): RegistryErrorCode {
  // The status decides where it says everything; registries answer 401 and 403 with codes of all kinds.
  if (status === 401) return 'UNAUTHORIZED';
  if (status === 403) return 'DENIED';
  if (status === 429) return 'TOOMANYREQUESTS';
  if (status === 416) return 'RANGE_INVALID';
  if (status === 413) return 'TOO_LARGE';
  // What the server does not do at all it will not do a second later.
  if (status === 501 || status === 505) return 'UNSUPPORTED';
  if (status === 408 || status >= 500) return 'UNAVAILABLE';
  // Registries say "manifest unknown" of a blob and "not found" of anything; what was asked for is known here.
  if (status === 404 && subject !== 'repository' && wireCode !== 'NAME_UNKNOWN') return notFoundCode[subject];
  if (wireCode !== undefined && isRegistryErrorCode(wireCode)) return wireCode;
  if (status === 404) return notFoundCode[subject];
  if (status === 405) return 'UNSUPPORTED';
  return status < 400 ? 'RESPONSE_INVALID' : 'UNKNOWN';
}

const phrases: Partial<Record<RegistryErrorCode, string>> = {
  BLOB_UNKNOWN: 'not found',
  MANIFEST_UNKNOWN: 'not found',
  NAME_UNKNOWN: 'repository not found',
  BLOB_UPLOAD_UNKNOWN: 'no such upload',
  UNAUTHORIZED: 'authentication required',
  DENIED: 'access denied',
  TOOMANYREQUESTS: 'too many requests',
  RANGE_INVALID: 'range not satisfiable',
};

function describe(status: number, code: RegistryErrorCode): string {
  const phrase = phrases[code];
  return phrase === undefined ? `the registry answered ${status}` : `${phrase}, the registry answered ${status}`;
}

interface WireError {
  readonly code: string | undefined;
  readonly message: string | undefined;
  readonly detail: unknown;
}

function parseWireError(body: Uint8Array): WireError | undefined {
  let json: unknown;
  try {
    json = JSON.parse(Buffer.from(body.buffer, body.byteOffset, body.byteLength).toString('utf8'));
  } catch {
    return undefined;
  }
  const { errors, details } = (typeof json === 'object' && json !== null ? json : {}) as {
    errors?: unknown;
    details?: unknown;
  };
  const first: unknown = Array.isArray(errors) ? errors[0] : undefined;
  if (typeof first !== 'object' || first === null) {
    // The shape of token servers.
    return typeof details === 'string' ? { code: undefined, message: details, detail: undefined } : undefined;
  }
  const { code, message, detail } = first as { code?: unknown; message?: unknown; detail?: unknown };
  return {
    code: typeof code === 'string' ? code : undefined,
    message: typeof message === 'string' ? message : undefined,
    detail,
  };
}

/** Text from a registry as it may be shown on a terminal: short and without control characters. */
export function printable(text: string): string {
  // oxlint-disable-next-line no-control-regex -- control characters are what must not reach a terminal
  return text.slice(0, longestMessage).replace(/[\u0000-\u001f\u007f-\u009f]+/g, ' ');
}
