import type { Environment } from './environment.ts';

/** What programs that we start for credentials find in their environment: where programs are, whose they are, how the network is reached. */
export function programEnvironment(environment: Environment): Readonly<Record<string, string>> {
  const { path, home, httpProxy, httpsProxy, noProxy, sslCertFile } = environment;
  const all = {
    PATH: path ?? '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
    HOME: home,
    HTTP_PROXY: httpProxy,
    HTTPS_PROXY: httpsProxy,
    NO_PROXY: noProxy,
    SSL_CERT_FILE: sslCertFile,
  };
  return Object.fromEntries(Object.entries(all).filter((entry): entry is [string, string] => entry[1] !== undefined));
}
