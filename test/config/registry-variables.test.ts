import { resolve } from 'node:path';
import { expect, it } from 'vitest';
import { certsDirs } from '../../src/config/certs-dirs.ts';
import { readEnvironment } from '../../src/config/environment.ts';
import { environmentOf, registryVariables } from '../../src/config/registry-variables.ts';

it('says the same to a process in another directory, and nothing else', () => {
  const variables = { PEEL_CERTS_DIR: 'a:/b', SSL_CERT_FILE: 'c.pem', HTTPS_PROXY: 'http://p', HOME: '/h' };
  const environment = environmentOf(
    JSON.parse(JSON.stringify(registryVariables(readEnvironment(variables)))) as object,
  );
  expect(certsDirs(environment)).toEqual([resolve('a'), '/b']);
  expect(environment).toMatchObject({ sslCertFile: resolve('c.pem'), httpsProxy: 'http://p', home: undefined });
  expect(certsDirs(environmentOf(registryVariables(readEnvironment({}))))).toEqual(certsDirs(readEnvironment({})));
});
