// Which proxy a request goes through: HTTP_PROXY, HTTPS_PROXY and NO_PROXY as docker, containerd and other programs in Go take them
// (golang.org/x/net/http/httpproxy).
import { BlockList, isIP } from 'node:net';
import { RegistryError } from '../errors.ts';
import { isLoopbackHost } from './endpoint.ts';

/** The proxy for a request to `url`; undefined to go there directly. */
export type ProxyChoice = (url: URL) => URL | undefined;

export interface ProxyVariables {
  readonly httpProxy?: string | undefined;
  readonly httpsProxy?: string | undefined;
  readonly noProxy?: string | undefined;
}

export const noProxy: ProxyChoice = () => undefined;

/** Errors: CONFIG_INVALID naming the variable, never its value. */
export function proxyFromVariables(variables: ProxyVariables): ProxyChoice {
  const { httpProxy, httpsProxy } = variables;
  const plain = httpProxy === undefined ? undefined : parseProxy(httpProxy, 'HTTP_PROXY');
  const secure = httpsProxy === undefined ? undefined : parseProxy(httpsProxy, 'HTTPS_PROXY');
  if (plain === undefined && secure === undefined) return noProxy;
  const exceptions = parseNoProxy(variables.noProxy ?? '');
  return (url) => {
    const proxy = url.protocol === 'https:' ? secure : plain;
    return proxy === undefined || isDirect(url, exceptions) ? undefined : proxy;
  };
}

/** `host:port` or an http(s) URL. `name` says where it stands. Errors: CONFIG_INVALID, without the text: it may hold a password. */
export function parseProxy(text: string, name: string): URL {
  const full = text.includes('://') ? text : `http://${text}`;
  const url = URL.canParse(full) ? new URL(full) : undefined;
  const isProxy = url !== undefined && /^https?:$/.test(url.protocol) && url.hostname !== '';
  if (!isProxy || url.pathname !== '/' || url.search !== '' || url.hash !== '')
    throw new RegistryError('CONFIG_INVALID', `${name}: expected the address of a proxy, like http://proxy:3128`);
  return url;
}

/** The Proxy-Authorization for the user in the address; undefined without one. */
export function proxyAuthorization({ username, password }: URL): string | undefined {
  if (username === '' && password === '') return undefined;
  const pair = `${decoded(username)}:${decoded(password)}`;
  return `Basic ${Buffer.from(pair).toString('base64')}`;
}

/** A part of a URL may hold a per cent sign that begins no escape. */
function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

interface NoProxy {
  readonly all: boolean;
  readonly subnets: BlockList;
  readonly names: readonly NoProxyName[];
}

interface NoProxyName {
  /** With a leading dot for a domain; an address is matched whole. */
  readonly suffix: string;
  /** The domain itself as well as what is below it. */
  readonly whole: boolean;
  readonly port: string | undefined;
}

function parseNoProxy(text: string): NoProxy {
  const subnets = new BlockList();
  const names: NoProxyName[] = [];
  const entries = text
    .toLowerCase()
    .split(/[\s,]+/)
    .filter((entry) => entry !== '');
  for (const entry of entries) {
    if (addSubnet(subnets, entry)) continue;
    const [, host = entry, port] = isIP(entry) === 0 ? (/^(.*?)(?::(\d{1,5}))?$/.exec(entry) ?? []) : [];
    const name = host.replace(/^\*(?=\.)/, '').replace(/^\[(.*)\]$/, '$1');
    if (name === '') continue;
    const suffix = isIP(name) !== 0 || name.startsWith('.') ? name : `.${name}`;
    names.push({ suffix, whole: !name.startsWith('.'), port });
  }
  return { all: entries.includes('*'), subnets, names };
}

function addSubnet(subnets: BlockList, entry: string): boolean {
  const [, address = '', bits] = /^([0-9a-f.:]+)\/(\d{1,3})$/.exec(entry) ?? [];
  const version = isIP(address);
  const prefix = Number(bits);
  if (version === 0 || prefix > (version === 4 ? 32 : 128)) return false;
  subnets.addSubnet(address, prefix, version === 4 ? 'ipv4' : 'ipv6');
  return true;
}

function isDirect(url: URL, exceptions: NoProxy): boolean {
  // A proxy's own loopback is never what is meant.
  if (exceptions.all || isLoopbackHost(url.hostname)) return true;
  const host = url.hostname.replace(/^\[(.*)\]$/, '$1').replace(/\.$/, '');
  const port = url.port === '' ? (url.protocol === 'https:' ? '443' : '80') : url.port;
  const version = isIP(host);
  if (version !== 0 && exceptions.subnets.check(host, version === 4 ? 'ipv4' : 'ipv6')) return true;
  return exceptions.names.some((name) => {
    if (name.port !== undefined && name.port !== port) return false;
    if (version !== 0) return host === name.suffix;
    return host.endsWith(name.suffix) || (name.whole && `.${host}` === name.suffix);
  });
}
