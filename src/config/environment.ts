// The only reader of the process environment.

/** What the environment says, with empty values taken as unset. */
export interface Environment {
  readonly peelRoot: string | undefined;
  readonly peelRunDir: string | undefined;
  readonly peelLogLevel: string | undefined;
  /** Folders like /etc/containerd/certs.d, separated by colons. */
  readonly peelCertsDir: string | undefined;
  readonly dockerConfigDir: string | undefined;
  readonly dockerAuthConfig: string | undefined;
  readonly registryAuthFile: string | undefined;
  readonly home: string | undefined;
  readonly xdgCacheHome: string | undefined;
  readonly xdgConfigHome: string | undefined;
  readonly xdgRuntimeDir: string | undefined;
  /** The PEM file with the authorities to trust in place of the system's, as OpenSSL and Go take it. */
  readonly sslCertFile: string | undefined;
  /** One with more of them, as Node.js takes it. */
  readonly extraCaFile: string | undefined;
  readonly httpProxy: string | undefined;
  readonly httpsProxy: string | undefined;
  readonly noProxy: string | undefined;
  readonly noColor: boolean;
  /** Where systemd puts the credentials of a service. */
  readonly credentialsDirectory: string | undefined;
  /** Where programs are found. */
  readonly path: string | undefined;
  /** The path of containerd's socket and the namespace, as `ctr` takes them. */
  readonly containerdAddress: string | undefined;
  readonly containerdNamespace: string | undefined;
}

export function readEnvironment(variables: NodeJS.ProcessEnv = process.env): Environment {
  const value = (name: string) => variables[name] || undefined;
  return Object.freeze({
    peelRoot: value('PEEL_ROOT'),
    peelRunDir: value('PEEL_RUN_DIR'),
    peelLogLevel: value('PEEL_LOG_LEVEL'),
    peelCertsDir: value('PEEL_CERTS_DIR'),
    dockerConfigDir: value('DOCKER_CONFIG'),
    dockerAuthConfig: value('DOCKER_AUTH_CONFIG'),
    registryAuthFile: value('REGISTRY_AUTH_FILE'),
    home: value('HOME'),
    xdgCacheHome: value('XDG_CACHE_HOME'),
    xdgConfigHome: value('XDG_CONFIG_HOME'),
    xdgRuntimeDir: value('XDG_RUNTIME_DIR'),
    sslCertFile: value('SSL_CERT_FILE'),
    extraCaFile: value('NODE_EXTRA_CA_CERTS'),
    httpProxy: value('HTTP_PROXY') ?? value('http_proxy'),
    httpsProxy: value('HTTPS_PROXY') ?? value('https_proxy'),
    noProxy: value('NO_PROXY') ?? value('no_proxy'),
    noColor: value('NO_COLOR') !== undefined,
    credentialsDirectory: value('CREDENTIALS_DIRECTORY'),
    path: value('PATH'),
    containerdAddress: value('CONTAINERD_ADDRESS'),
    containerdNamespace: value('CONTAINERD_NAMESPACE'),
  });
}
