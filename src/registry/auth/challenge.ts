// WWW-Authenticate (RFC 9110 section 11.6.1): several challenges may share one header line, separated by the same commas as
// their parameters.

export interface Challenge {
  /** Lower case: `bearer`, `basic`. */
  readonly scheme: string;
  /** Names in lower case. */
  readonly parameters: ReadonlyMap<string, string>;
}

const token = /[!#$%&'*+\-.^_`|~0-9A-Za-z]+/y;
const maxLength = 16_384;

/** All challenges in order; reading stops at the first thing that is not one, keeping those before it. */
export function parseChallenges(header: string | readonly string[] | undefined): Challenge[] {
  const lines = header === undefined ? [] : typeof header === 'string' ? [header] : header;
  return lines.flatMap((line) => parseLine(line.slice(0, maxLength)));
}

function parseLine(text: string): Challenge[] {
  const challenges: Challenge[] = [];
  let at = skip(text, 0, ' \t,');
  while (at < text.length) {
    const scheme = tokenAt(text, at);
    if (scheme === '') break;
    const parameters = new Map<string, string>();
    challenges.push({ scheme: scheme.toLowerCase(), parameters });
    at = skip(text, at + scheme.length, ' \t');
    at = parseParameters(text, at, parameters);
  }
  return challenges;
}

/** Reads `name=value` pairs until something else, such as the next scheme, begins; returns where. */
function parseParameters(text: string, start: number, into: Map<string, string>): number {
  let at = skip(text, start, ' \t,');
  for (;;) {
    const name = tokenAt(text, at);
    const equals = skip(text, at + name.length, ' \t');
    if (name === '' || text[equals] !== '=') return at;
    const valueAt = skip(text, equals + 1, ' \t');
    const { value, end } = text[valueAt] === '"' ? quotedAt(text, valueAt) : plainAt(text, valueAt);
    if (end === valueAt) return text.length;
    into.set(name.toLowerCase(), value);
    at = skip(text, end, ' \t,');
  }
}

function plainAt(text: string, at: number): { value: string; end: number } {
  const value = tokenAt(text, at);
  return { value, end: at + value.length };
}

function quotedAt(text: string, at: number): { value: string; end: number } {
  let value = '';
  for (let i = at + 1; i < text.length; i += 1) {
    if (text[i] === '"') return { value, end: i + 1 };
    if (text[i] === '\\') i += 1;
    value += text[i] ?? '';
  }
  return { value, end: text.length };
}

function tokenAt(text: string, at: number): string {
  token.lastIndex = at;
  return token.exec(text)?.[0] ?? '';
}

function skip(text: string, at: number, characters: string): number {
  let i = at;
  while (i < text.length && characters.includes(text.charAt(i))) i += 1;
  return i;
}
