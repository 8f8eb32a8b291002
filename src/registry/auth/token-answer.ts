// What a token server answers (distribution "Token Authentication Specification", "OAuth2 Token Authentication").
import { RegistryError } from '../errors.ts';

export interface TokenAnswer {
  readonly token: string;
  /** From now on. */
  readonly lifetimeMs: number;
  readonly refreshToken: string | undefined;
}

const defaultLifetimeSeconds = 60;
const longestToken = 32 * 1024;

/** `date`: the Date header. `server` is for messages. Errors: RESPONSE_INVALID. */
export function parseTokenAnswer(bytes: Buffer, date: string | undefined, server: string): TokenAnswer {
  let json: Readonly<Record<string, unknown>> | null;
  try {
    json = JSON.parse(bytes.toString('utf8')) as typeof json;
  } catch {
    // Without a cause: the parser's message quotes the text, and the text may hold a token.
    throw new RegistryError('RESPONSE_INVALID', `${server} answered with something that is not json`);
  }
  const { token, access_token: accessToken, refresh_token: refreshToken } = json ?? {};
  const value = typeof token === 'string' && token !== '' ? token : accessToken;
  // What a header cannot carry would fail later with the token in the message.
  if (typeof value !== 'string' || value.length > longestToken || !/^[\x21-\x7e]+$/.test(value))
    throw new RegistryError('RESPONSE_INVALID', `${server} answered without a token`);
  return {
    token: value,
    lifetimeMs: lifetimeOf(json ?? {}, date),
    refreshToken: typeof refreshToken === 'string' && refreshToken !== '' ? refreshToken : undefined,
  };
}

/**
 * The time of issue counts by the server's own clock, which is in the Date header: ours may be hours off, and a token that the server
 * kept for a while has less of its life left than it says.
 */
function lifetimeOf(json: Readonly<Record<string, unknown>>, date: string | undefined): number {
  const { expires_in: expiresIn, issued_at: issuedAt } = json;
  const seconds = Number(expiresIn);
  const lifetimeMs = (Number.isFinite(seconds) && seconds > 0 ? seconds : defaultLifetimeSeconds) * 1000;
  const age = typeof issuedAt === 'string' && date !== undefined ? Date.parse(date) - Date.parse(issuedAt) : 0;
  return age > 0 ? Math.max(0, lifetimeMs - age) : lifetimeMs;
}
