// A registry as this node reaches it: its mirrors and certificates from hosts.toml, credentials, proxies, and what the command line says.
import { certsDirs } from '../config/certs-dirs.ts';
import { credentialPlaces } from '../config/credential-places.ts';
import type { Environment } from '../config/environment.ts';
import { rootCertificatesFile } from '../config/root-certificates.ts';
import { staticCredentials } from '../registry/auth/credentials.ts';
import type { CredentialSource } from '../registry/auth/credentials.ts';
import { userCredentials } from '../registry/auth/user-credentials.ts';
import { CircuitBreaker } from '../registry/client/circuit-breaker.ts';
import type { EndpointStatus } from '../registry/client/circuit-breaker.ts';
import { isLoopbackHost } from '../registry/client/endpoint.ts';
import type { PlainHttp } from '../registry/client/endpoint.ts';
import { defaultHttpOptions } from '../registry/client/http.ts';
import { proxyFromVariables } from '../registry/client/proxy.ts';
import type { RateLimit } from '../registry/client/rate-limit.ts';
import { RegistryError } from '../registry/errors.ts';
import { findHostConfig } from '../registry/hosts/find-host-config.ts';
import { allCapabilities, ownEndpoint } from '../registry/hosts/host-endpoint.ts';
import type { HostEndpoint } from '../registry/hosts/host-endpoint.ts';
import { mirror } from '../registry/mirror.ts';
import type { MirrorOptions } from '../registry/mirror.ts';
import { RemoteRegistry } from '../registry/remote-registry.ts';
import type { RemoteRegistryOptions } from '../registry/remote-registry.ts';
import type { Registry } from '../registry/registry.ts';
import { defaultBackoff } from '../util/backoff.ts';
import type { BackoffPolicy } from '../util/backoff.ts';
import type { RegistryAccess } from './registry-access.ts';

export interface ConnectOptions extends Pick<RemoteRegistryOptions, 'onBytes' | 'onWarning'> {
  readonly environment: Environment;
  readonly access?: RegistryAccess | undefined;
  /** What credentials are taken from; default those that this process's user has stored. */
  readonly credentials?: CredentialSource | undefined;
  readonly backoff?: BackoffPolicy | undefined;
  /** An endpoint is left alone from now on, or answers again. */
  readonly onEndpoint?: ((status: EndpointStatus) => void) | undefined;
  /** One of them answers again, after the work that yields at least had to stay away. */
  readonly onReturn?: (() => void) | undefined;
}

export interface ConnectedRegistry {
  /** All endpoints as one; the same as `origin` where there are no mirrors. */
  readonly registry: Registry;
  /** The registry itself, or what stands in for it as `server` of hosts.toml. */
  readonly origin: RemoteRegistry;
  /** The tightest of those that the endpoints told. */
  readonly rateLimit: () => RateLimit | undefined;
  /** Whether the endpoints are asked, the origin last. */
  readonly endpoints: () => readonly EndpointStatus[];
  /** Ends what is under way. Idempotent. */
  close(): Promise<void>;
}

/** A mirror that fails is passed over rather than waited for. */
const mirrorAttempts = 2;

/** `host` as in a reference. Makes no request. Errors: CONFIG_INVALID naming the file or the variable; CREDENTIALS_INVALID. */
export async function connectRegistry(host: string, options: ConnectOptions): Promise<ConnectedRegistry> {
  const { environment, onWarning = () => {} } = options;
  const config = await findHostConfig(host, certsDirs(environment));
  config?.warnings.forEach(onWarning);
  const endpoints = config?.endpoints ?? [ownEndpoint];
  checkAccess(host, endpoints, options.access);
  const stored = options.credentials ?? userCredentials(credentialPlaces(environment, process.getuid?.() ?? 0));
  const proxy = proxyFromVariables(environment);
  const breakers: CircuitBreaker[] = [];
  const remotes = endpoints.map((endpoint, i) => {
    const backoff = options.backoff ?? defaultBackoff;
    const remote = remoteOptions(host, endpoint, options, stored);
    const hasOthers = i < endpoints.length - 1;
    const { onEndpoint: onChange, onReturn } = options;
    const breaker = new CircuitBreaker({ name: remote.host, hasOthers, onChange, onReturn });
    breakers.push(breaker);
    return new RemoteRegistry({
      ...remote,
      breaker,
      proxy: endpoint.proxy === undefined ? proxy : () => endpoint.proxy,
      backoff: hasOthers ? { ...backoff, attempts: Math.min(backoff.attempts, mirrorAttempts) } : backoff,
      onBytes: options.onBytes,
      onWarning,
    });
  });
  const origin = remotes.at(-1) as RemoteRegistry;
  const single = remotes.length === 1 && endpoints[0]?.capabilities.size === allCapabilities.size;
  const named = remotes.map((registry, i) => ({
    name: registry.host,
    registry,
    capabilities: endpoints[i]?.capabilities ?? allCapabilities,
  }));
  return {
    registry: single ? origin : mirror(named, { onFallback: fallbackWarnings(host, onWarning) }),
    origin,
    rateLimit: () => tightest(remotes),
    endpoints: () => breakers.map(({ status }) => status),
    close: async () => {
      for (const remote of remotes) await remote.close();
    },
  };
}

/** A user that somebody typed must not be left out in silence. */
function checkAccess(host: string, endpoints: readonly HostEndpoint[], access: RegistryAccess = {}): void {
  const hosts = endpoints.map(({ url }) => (url === undefined ? host : url.host));
  if (access.credentials === undefined || hosts.some((name) => hubAlias(name) === hubAlias(host))) return;
  throw new RegistryError(
    'CREDENTIALS_INVALID',
    `the user given for ${host} is not sent to ${hosts.join(', ')}, to which hosts.toml leads instead: log in there`,
  );
}

function remoteOptions(
  host: string,
  endpoint: HostEndpoint,
  { environment, access = {} }: ConnectOptions,
  stored: CredentialSource,
): RemoteRegistryOptions {
  const { url, headers } = endpoint;
  const endpointHost = url === undefined ? host : hubAlias(url.host);
  // What was said of a registry on the command line is not said of its mirrors: above all they must not get its password.
  const isNamed = endpointHost === hubAlias(host);
  const { credentials } = access;
  const insecure = isNamed && access.insecure === true;
  const caFiles = [access.caFile, environment.extraCaFile, ...endpoint.caFiles].filter((file) => file !== undefined);
  const isTlsMeant =
    insecure ||
    access.caFile !== undefined ||
    endpoint.skipVerify !== undefined ||
    endpoint.caFiles.length + endpoint.clientCertificates.length > 0;
  return {
    host: endpointHost,
    baseUrl: url === undefined || endpointHost === 'docker.io' ? hubUrl(url) : url,
    plainHttp: plainHttpOf(endpointHost, url, { insecure, isTlsMeant }),
    namespace: isNamed ? undefined : host,
    headers,
    credentials: isNamed && credentials !== undefined ? staticCredentials(credentials, [endpointHost]) : stored,
    tls: {
      rootsFile: rootCertificatesFile(environment),
      caFiles,
      clientCertificates: endpoint.clientCertificates,
      skipVerify: insecure || endpoint.skipVerify === true,
    },
    http: { connectTimeoutMs: endpoint.connectTimeoutMs ?? defaultHttpOptions.connectTimeoutMs },
  };
}

/**
 * Where plain HTTP is what would be spoken, TLS settings ask for TLS, and HTTP is what is left where there is none; as containerd
 * has it, not on port 80.
 */
function plainHttpOf(
  host: string,
  url: URL | undefined,
  { insecure, isTlsMeant }: { readonly insecure: boolean; readonly isTlsMeant: boolean },
): PlainHttp {
  if (url === undefined) return insecure || (isTlsMeant && isLoopbackHost(host)) ? 'fallback' : 'auto';
  return url.protocol === 'http:' && url.port !== '' && isTlsMeant ? 'fallback' : 'auto';
}

/** Docker Hub's API lives on hosts that its credentials are not kept under. */
function hubAlias(host: string): string {
  return host === 'registry-1.docker.io' || host === 'index.docker.io' ? 'docker.io' : host;
}

/** `https://docker.io` is what people write for `https://registry-1.docker.io`. */
function hubUrl(url: URL | undefined): URL | undefined {
  if (url === undefined) return undefined;
  const api = new URL(url);
  api.host = 'registry-1.docker.io';
  return api;
}

function tightest(remotes: readonly RemoteRegistry[]): RateLimit | undefined {
  const share = ({ limit, remaining }: RateLimit) => (limit === 0 ? 0 : remaining / limit);
  const told = remotes.map(({ rateLimit }) => rateLimit).filter((limit) => limit !== undefined);
  return told.sort((a, b) => share(a) - share(b))[0];
}

/** Once per endpoint and kind of failure. That a mirror has not got something is no failure. */
function fallbackWarnings(host: string, onWarning: (text: string) => void): NonNullable<MirrorOptions['onFallback']> {
  const said = new Set<string>();
  return ({ name, code, error }) => {
    const kind = `${name} ${code}`;
    if (code.endsWith('_UNKNOWN') || said.has(kind)) return;
    said.add(kind);
    onWarning(`${name} is passed over for ${host}: ${error instanceof Error ? error.message : code}`);
  };
}
