import { resolve } from 'node:path';
import { certsDirs } from './certs-dirs.ts';
import { readEnvironment } from './environment.ts';
import type { Environment } from './environment.ts';

/** What the environment says of how registries are reached, apart from who asks them. */
export type RegistryVariables = Pick<
  Environment,
  'peelCertsDir' | 'sslCertFile' | 'extraCaFile' | 'httpProxy' | 'httpsProxy' | 'noProxy'
>;

/** For a process in another directory: every path is absolute. */
export function registryVariables(environment: Environment): RegistryVariables {
  const { peelCertsDir, sslCertFile, extraCaFile, httpProxy, httpsProxy, noProxy } = environment;
  return {
    peelCertsDir: peelCertsDir === undefined ? undefined : certsDirs(environment).join(':'),
    sslCertFile: sslCertFile && resolve(sslCertFile),
    extraCaFile: extraCaFile && resolve(extraCaFile),
    httpProxy,
    httpsProxy,
    noProxy,
  };
}

/** An environment in which nothing else is set. */
export function environmentOf(variables: Partial<RegistryVariables>): Environment {
  return { ...readEnvironment({}), ...variables };
}
