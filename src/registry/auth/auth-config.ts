// The text of docker's config.json and podman's auth.json: `auths`, `credHelpers`, `credsStore` (containers-auth.json(5)).
import { RegistryError } from '../errors.ts';
import type { Credentials } from './credentials.ts';
import { jsonErrorPlace } from './json-place.ts';

export interface AuthConfig {
  /** For messages: `credentials file /root/.docker/config.json`. */
  readonly name: string;
  readonly auths: ReadonlyMap<string, unknown>;
  readonly credHelpers: ReadonlyMap<string, string>;
  readonly credsStore: string | undefined;
  /** The whole document, so that writing keeps what this version does not know. */
  readonly raw: Readonly<Record<string, unknown>>;
}

const dockerHubServer = 'https://index.docker.io/v1/';
const dockerHubHosts = ['index.docker.io', 'registry-1.docker.io', 'registry.hub.docker.com'];

/** Errors: CREDENTIALS_INVALID, naming the place and never the content. */
export function parseAuthConfig(text: string, name: string): AuthConfig {
  let raw: unknown;
  try {
    raw = text.trim() === '' ? {} : JSON.parse(text);
  } catch {
    // Without a cause: the parser's message quotes the text, and the text holds secrets.
    throw invalid(name, `not valid json at ${jsonErrorPlace(text) ?? 'an unknown place'}`);
  }
  if (!isObject(raw)) throw invalid(name, 'not an object');
  const credHelpers = Object.entries(section(raw, 'credHelpers', name)).map(
    ([key, helper]) => [key, textOf(helper, `credHelpers[${JSON.stringify(key.slice(0, 200))}]`, name)] as const,
  );
  return {
    name,
    auths: new Map(Object.entries(section(raw, 'auths', name))),
    credHelpers: new Map(credHelpers.filter(([, helper]) => helper !== '')),
    credsStore: textOf(raw['credsStore'], 'credsStore', name) || undefined,
    raw,
  };
}

/** The name under which docker keeps the credentials of a host. */
export function serverOf(host: string): string {
  return host === 'docker.io' ? dockerHubServer : host;
}

/** Whether `key` stands for the whole host. */
export function isKeyOf(key: string, host: string): boolean {
  return normalKey(key) === host;
}

export function helperOf(config: AuthConfig, host: string): string | undefined {
  return config.credHelpers.get(host) ?? [...config.credHelpers].find(([key]) => isKeyOf(key, host))?.[1];
}

/** The registries that `auths` speaks of, as in a reference. */
export function hostsOf(config: AuthConfig): Set<string> {
  return new Set([...config.auths.keys()].map(hostOfKey));
}

/** The registry that a key, or the address of a server, is about. */
export function hostOfKey(key: string): string {
  return normalKey(key).replace(/\/.*$/s, '');
}

/** What the credentials for a repository may be kept under, the most specific first: `host/team/app`, `host/team`, `host`. */
export function keysOf(host: string, repository: string | undefined): string[] {
  const parts = [host, ...(repository === undefined ? [] : repository.split('/'))];
  return parts.map((_, i) => parts.slice(0, parts.length - i).join('/'));
}

/**
 * The credentials of the most specific key: `host/namespace/repository`, then `host/namespace`, then `host`. An entry that says nothing
 * counts as not there. Errors: CREDENTIALS_INVALID.
 */
export function credentialsOf(
  config: AuthConfig,
  host: string,
  repository: string | undefined,
): Credentials | undefined {
  for (const wanted of keysOf(host, repository)) {
    const found = credentialsAt(config, wanted);
    if (found !== undefined) return found;
  }
  return undefined;
}

/** Those of one of the keys of `keysOf`. Errors: CREDENTIALS_INVALID. */
export function credentialsAt(config: AuthConfig, wanted: string): Credentials | undefined {
  // A key that is written just so goes before one that only means the same.
  const keys = [...config.auths.keys()].filter((key) => key !== wanted && normalKey(key) === wanted);
  for (const key of [wanted, ...keys]) {
    const place = `auths[${JSON.stringify(key.slice(0, 200))}]`;
    const found = config.auths.has(key) ? parseEntry(config.auths.get(key), place, config.name) : undefined;
    if (found !== undefined) return found;
  }
  return undefined;
}

/** Docker's keys are hosts and URLs (`https://index.docker.io/v1/`, `ghcr.io/v2/`), podman's are hosts with or without a path. */
function normalKey(key: string): string {
  const bare = key.replace(/^https?:\/\//, '');
  const [host = '', ...rest] = (bare === key ? bare.replace(/\/v[12]\/$/, '') : bare.replace(/\/.*$/s, '')).split('/');
  return [dockerHubHosts.includes(host) ? 'docker.io' : host, ...rest].join('/');
}

/** One value of `auths`, or what has its form. Undefined when it says nothing. Errors: CREDENTIALS_INVALID, naming the `place` in `name`. */
export function parseEntry(entry: unknown, place: string, name: string): Credentials | undefined {
  if (entry === null) return undefined;
  if (!isObject(entry)) throw invalid(name, `${place} is not an object`);
  const field = (field: string): string => (typeof entry[field] === 'string' ? entry[field] : '');
  if (field('registrytoken') !== '') return { kind: 'access-token', token: field('registrytoken') };
  const auth = field('auth').trim();
  const isBase64 = /^[A-Za-z0-9+/_-]*={0,2}$/.test(auth);
  // Docker pads what it decodes with NULs.
  const text = Buffer.from(auth, 'base64').toString('utf8').replace(/\0+$/, '');
  const colon = text.indexOf(':');
  const username = colon > 0 ? text.slice(0, colon) : field('username');
  const token = field('identitytoken');
  if (token !== '') return { kind: 'refresh-token', token, ...(username === '' ? {} : { username }) };
  if (auth !== '') {
    if (!isBase64 || colon < 0) throw invalid(name, `${place}.auth is not base64 of user:password`);
    return { kind: 'password', username: text.slice(0, colon), password: text.slice(colon + 1) };
  }
  return username === '' ? undefined : { kind: 'password', username, password: field('password') };
}

function section(raw: Readonly<Record<string, unknown>>, field: string, name: string): Record<string, unknown> {
  const value = raw[field] ?? {};
  if (!isObject(value)) throw invalid(name, `${field} is not an object`);
  return value;
}

/** Absent counts as empty. */
function textOf(value: unknown, place: string, name: string): string {
  const text = value ?? '';
  if (typeof text !== 'string') throw invalid(name, `${place} is not a text`);
  return text;
}

function invalid(name: string, what: string): RegistryError {
  return new RegistryError('CREDENTIALS_INVALID', `${name}: ${what}`);
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
