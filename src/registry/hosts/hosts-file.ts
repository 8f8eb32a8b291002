// containerd's hosts.toml (github.com/containerd/containerd, docs/hosts.md): the mirrors of one registry and how each is reached.
import path from 'node:path';
import { parse, TomlError } from 'smol-toml';
import { parseProxy } from '../client/proxy.ts';
import type { ClientCertificate } from '../client/secure-context.ts';
import { RegistryError } from '../errors.ts';
import { allCapabilities, ownEndpoint } from './host-endpoint.ts';
import type { HostCapability, HostConfig, HostEndpoint } from './host-endpoint.ts';
import { isTable, TomlFields } from './toml-fields.ts';
import type { TomlTable } from './toml-fields.ts';

const endpointKeys: readonly string[] = [
  'capabilities',
  'ca',
  'client',
  'skip_verify',
  'header',
  'override_path',
  'dial_timeout',
  'proxy',
];
const rootKeys: readonly string[] = [...endpointKeys, 'server', 'host'];

/** `file` is absolute: paths in the text are relative to its folder. Errors: CONFIG_INVALID naming the file, and the key or the line. */
export function parseHostsFile(text: string, file: string): HostConfig {
  const root = parseToml(text, file);
  const fields = new TomlFields(root, file);
  const warnings: string[] = [];
  const endpoints: HostEndpoint[] = [];
  warnings.push(...unknownKeys(fields, rootKeys));
  const hosts = new TomlFields(fields.table('host'), file, 'host.');
  for (const name of hosts.keys()) {
    const table = hosts.value(name);
    if (!isTable(table)) throw hosts.fail(JSON.stringify(name), 'a table like [host."https://mirror.example.com"]');
    const own = new TomlFields(table, file, `host.${JSON.stringify(name)}.`);
    warnings.push(...unknownKeys(own, endpointKeys));
    endpoints.push(parseEndpoint(own, name, hosts.fail(JSON.stringify(name), 'the URL of a registry'), file));
  }
  endpoints.push(parseEndpoint(fields, fields.string('server'), fields.fail('server', 'the URL of a registry'), file));
  return { endpoints, warnings };
}

function parseToml(text: string, file: string): TomlTable {
  try {
    return parse(text);
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    // Only where, without a cause: the parser quotes the lines around, and headers hold secrets.
    throw new RegistryError('CONFIG_INVALID', `${file}:${error.line}:${error.column}: not valid toml`);
  }
}

function unknownKeys(fields: TomlFields, known: readonly string[]): string[] {
  return fields
    .keys()
    .filter((key) => !known.includes(key))
    .map((key) => `${fields.nameOf(key)} is not known and has no effect`);
}

function parseEndpoint(
  fields: TomlFields,
  server: string | undefined,
  noUrl: RegistryError,
  file: string,
): HostEndpoint {
  const absolute = (name: string) => path.resolve(path.dirname(file), name);
  const overridePath = fields.boolean('override_path') ?? false;
  const proxy = fields.string('proxy');
  return {
    ...ownEndpoint,
    url: server === undefined ? undefined : parseUrl(server, overridePath, noUrl),
    // Without a server of its own the registry can do all of it, as for containerd.
    capabilities: server === undefined ? allCapabilities : parseCapabilities(fields),
    caFiles: fields.strings('ca').map(absolute),
    clientCertificates: parseClient(fields, absolute),
    skipVerify: fields.boolean('skip_verify'),
    headers: parseHeaders(fields, file),
    connectTimeoutMs: parseTimeout(fields),
    proxy: proxy === undefined ? undefined : parseProxy(proxy, fields.nameOf('proxy')),
  };
}

/** Without a scheme it is https; the API is at /v2 below the path unless the path is said to be its root. */
function parseUrl(text: string, overridePath: boolean, noUrl: RegistryError): URL {
  const full = text.includes('://') ? text : `https://${text}`;
  if (!URL.canParse(full)) throw noUrl;
  const { protocol, host, pathname } = new URL(full);
  if ((protocol !== 'https:' && protocol !== 'http:') || host === '') throw noUrl;
  const root = pathname.replace(/\/+$/, '');
  return new URL(`${protocol}//${host}${overridePath || root.endsWith('/v2') ? root : `${root}/v2`}`);
}

function parseCapabilities(fields: TomlFields): ReadonlySet<HostCapability> {
  const names = fields.strings('capabilities').map((name) => name.toLowerCase());
  const isCapability = (name: string): name is HostCapability => allCapabilities.has(name as HostCapability);
  // containerd 2 knows "referrers" as well; here those who resolve tags are asked for lists of all kinds.
  const known = names.filter((name) => name !== 'referrers');
  if (!known.every(isCapability)) throw fields.fail('capabilities', 'a list of "pull", "resolve" and "push"');
  return names.length === 0 ? allCapabilities : new Set(known);
}

/** A file with both; a list of such files; a list of pairs of certificate and key, where an empty key means the same file. */
function parseClient(fields: TomlFields, absolute: (name: string) => string): ClientCertificate[] {
  const value = fields.value('client') ?? [];
  return (Array.isArray(value) ? (value as unknown[]) : [value]).map((item) => {
    const [cert, key, ...more] = Array.isArray(item) ? (item as unknown[]) : [item, ''];
    if (typeof cert !== 'string' || cert === '' || typeof key !== 'string' || more.length > 0)
      throw fields.fail('client', 'a file, a list of files, or a list of pairs of certificate and key');
    return { certFile: absolute(cert), keyFile: key === '' ? undefined : absolute(key) };
  });
}

/** What would break the exchange itself. */
const ownHeaders = /^(?:host|connection|content-length|transfer-encoding|upgrade|keep-alive|expect|te|trailer|range)$/;

function parseHeaders(fields: TomlFields, file: string): Record<string, string> {
  const table = new TomlFields(fields.table('header'), file, fields.nameOf('header.').slice(`${file}: `.length));
  const headers: Record<string, string> = {};
  for (const key of table.keys()) {
    const name = key.toLowerCase();
    if (!/^[!#$%&'*+\-.^_`|~0-9a-z]+$/.test(name) || ownHeaders.test(name))
      throw table.fail(key, 'the name of a header that may be set');
    const value = table.strings(key).join(', ');
    if (!/^[\t\x20-\x7e\x80-\xff]*$/.test(value)) throw table.fail(key, 'a text without control characters');
    headers[name] = value;
  }
  return headers;
}

const unitMs: Readonly<Record<string, number>> = { ns: 1e-6, us: 1e-3, µs: 1e-3, ms: 1, s: 1e3, m: 6e4, h: 3.6e6 };

/** A duration of Go: `1s`, `500ms`, `1m30s`. */
function parseTimeout(fields: TomlFields): number | undefined {
  const text = fields.string('dial_timeout');
  if (text === undefined) return undefined;
  const parts = [...text.matchAll(/(\d{1,9}(?:\.\d{1,9})?)(ns|us|µs|ms|s|m|h)/g)];
  const ms = parts.reduce((sum, [, count, unit = '']) => sum + Number(count) * (unitMs[unit] ?? 0), 0);
  if (parts.map(([part]) => part).join('') !== text || ms <= 0)
    throw fields.fail('dial_timeout', 'a duration like "1s"');
  return Math.min(Math.ceil(ms), 2 ** 31 - 1);
}
