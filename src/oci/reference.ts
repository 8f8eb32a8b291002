// Names of images as people type them: the grammar and the docker.io defaults of github.com/distribution/reference, and
// `oci:DIR[:TAG][@DIGEST]` for an OCI image layout on disk, `oci-archive:FILE[:TAG][@DIGEST]` for a tar of one.
import { isDigest } from './digest.ts';
import type { Digest } from './digest.ts';
import { OciError } from './errors.ts';

export interface RegistryReference {
  readonly kind: 'registry';
  /** Host with its port when there is one: `docker.io`, `localhost:5000`, `[::1]:5000`. */
  readonly host: string;
  readonly repository: string;
  /** With a digest as well, the digest decides and the tag is for people. */
  readonly tag: string | undefined;
  readonly digest: Digest | undefined;
}

export interface LayoutReference {
  readonly kind: 'layout';
  /** As typed, without trailing slashes. */
  readonly dir: string;
  readonly tag: string | undefined;
  readonly digest: Digest | undefined;
}

export interface ArchiveReference {
  readonly kind: 'archive';
  /** As typed, without trailing slashes. */
  readonly file: string;
  readonly tag: string | undefined;
  readonly digest: Digest | undefined;
}

export type Reference = RegistryReference | LayoutReference | ArchiveReference;

export const defaultHost = 'docker.io';
const defaultTag = 'latest';
const layoutPrefix = 'oci:';
const archivePrefix = 'oci-archive:';
const maxLength = 4096;
const maxRepositoryLength = 255;

const hostPattern =
  /^(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*|\[[0-9A-Fa-f:]{2,39}\])(?::(\d{1,5}))?$/;
const componentPattern = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$/;
const tagPattern = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/;

/** Errors: ERR_OCI_REFERENCE naming the text and what is wrong with it. */
export function parseReference(text: string): Reference {
  if (text === '') throw fail(text, 'it is empty');
  if (text.length > maxLength) throw fail(text, `it has more than ${maxLength} characters`);
  if (text.startsWith(layoutPrefix)) {
    const { path, ...named } = parseOnDisk(text, layoutPrefix, 'directory');
    return { kind: 'layout', dir: path, ...named };
  }
  if (text.startsWith(archivePrefix)) {
    const { path, ...named } = parseOnDisk(text, archivePrefix, 'file');
    return { kind: 'archive', file: path, ...named };
  }
  return parseRegistry(text);
}

/** In full, with the defaults written out; `parseReference` of it gives the same reference. */
export function formatReference(reference: Reference): string {
  const suffix = `${reference.tag === undefined ? '' : `:${reference.tag}`}${reference.digest === undefined ? '' : `@${reference.digest}`}`;
  if (reference.kind === 'registry') return `${reference.host}/${reference.repository}${suffix}`;
  const [prefix, path] = reference.kind === 'layout' ? [layoutPrefix, reference.dir] : [archivePrefix, reference.file];
  // A slash ends the path where its last name could be taken for a tag or a digest.
  const lastName = path.slice(path.lastIndexOf('/') + 1);
  return `${prefix}${path}${/[:@]/.test(lastName) ? '/' : ''}${suffix}`;
}

export function isRepository(text: string): boolean {
  return text.length <= maxRepositoryLength && text.split('/').every((part) => componentPattern.test(part));
}

export function isTag(text: string): boolean {
  return tagPattern.test(text);
}

/** `host[:port]`, where an IPv6 address stands in brackets. */
export function isRegistryHost(text: string): boolean {
  if (text.length > 255 + 6) return false;
  const match = hostPattern.exec(text);
  if (match === null) return false;
  const port = match[1];
  return port === undefined || (Number(port) >= 1 && Number(port) <= 65_535);
}

function parseRegistry(text: string): RegistryReference {
  const { rest: named, digest } = splitDigest(text, text);
  const slash = named.indexOf('/');
  const first = named.slice(0, Math.max(slash, 0));
  const hasHost = slash > 0 && (/[.:]/.test(first) || first === 'localhost' || first !== first.toLowerCase());
  const { host, path } = hasHost ? { host: first, path: named.slice(slash + 1) } : { host: defaultHost, path: named };
  if (!isRegistryHost(host)) throw fail(text, `${JSON.stringify(host)} is not a host`);
  const colon = path.lastIndexOf(':');
  const name = colon < 0 ? path : path.slice(0, colon);
  const tag = colon < 0 ? undefined : path.slice(colon + 1);
  if (tag !== undefined && !isTag(tag)) throw fail(text, `${JSON.stringify(tag.slice(0, 200))} is not a tag`);
  return {
    kind: 'registry',
    ...dockerDefaults(checkedRepository(name, text), host, text),
    tag: tag ?? (digest === undefined ? defaultTag : undefined),
    digest,
  };
}

function dockerDefaults(repository: string, host: string, text: string): { host: string; repository: string } {
  if (host !== defaultHost && host !== 'index.docker.io') return { host, repository };
  if (repository.includes('/')) return { host: defaultHost, repository };
  // Docker refuses such a name because it cannot be told from an image id.
  if (/^[0-9a-f]{64}$/.test(repository))
    throw fail(text, 'a name of 64 hexadecimal digits is an image id, not a repository');
  return { host: defaultHost, repository: `library/${repository}` };
}

function checkedRepository(name: string, text: string): string {
  if (isRepository(name)) return name;
  if (name === '') throw fail(text, 'it names no repository');
  if (name !== name.toLowerCase()) throw fail(text, 'the repository must be lower case');
  if (name.length > maxRepositoryLength)
    throw fail(text, `the repository has more than ${maxRepositoryLength} characters`);
  throw fail(text, `${JSON.stringify(name)} is not a repository`);
}

function parseOnDisk(text: string, prefix: string, what: 'directory' | 'file') {
  const named = text.slice(prefix.length);
  if (named.includes('\0')) throw fail(text, `the ${what} has a NUL character`);
  const slash = named.lastIndexOf('/') + 1;
  const { rest, digest } = splitDigest(named.slice(slash), text);
  const colon = rest.lastIndexOf(':');
  const tag = colon < 0 ? undefined : rest.slice(colon + 1);
  if (tag !== undefined && !isTag(tag)) throw fail(text, `${JSON.stringify(tag.slice(0, 200))} is not a tag`);
  const path = named.slice(0, slash) + (colon < 0 ? rest : rest.slice(0, colon));
  if (path === '') throw fail(text, `it names no ${what}`);
  return { path: path.replace(/(?<=[^/])\/+$|(?<=^\/)\/+$/, ''), tag, digest };
}

function splitDigest(part: string, text: string): { rest: string; digest: Digest | undefined } {
  const at = part.lastIndexOf('@');
  const tail = part.slice(at + 1);
  // In the name of a directory or a file an `@` is an ordinary character; a digest has a colon.
  const onDisk = text.startsWith(layoutPrefix) || text.startsWith(archivePrefix);
  if (at < 0 || (onDisk && !tail.includes(':'))) return { rest: part, digest: undefined };
  if (!isDigest(tail)) throw fail(text, `${JSON.stringify(tail.slice(0, 200))} is not a digest`);
  return { rest: part.slice(0, at), digest: tail };
}

function fail(text: string, why: string): OciError {
  return new OciError('ERR_OCI_REFERENCE', `not an image reference: ${JSON.stringify(text.slice(0, 200))}: ${why}`);
}
