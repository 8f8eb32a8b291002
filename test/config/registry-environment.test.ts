// What the environment says of how registries are reached.
import { describe, expect, it } from 'vitest';
import { certsDirs } from '../../src/config/certs-dirs.ts';
import { readEnvironment } from '../../src/config/environment.ts';
import { rootCertificatesFile } from '../../src/config/root-certificates.ts';

describe('the environment', () => {
  it.each<[string, string, string | undefined]>([
    ['HTTP_PROXY', 'httpProxy', 'one'],
    ['http_proxy', 'httpProxy', 'one'],
    ['HTTPS_PROXY', 'httpsProxy', 'one'],
    ['https_proxy', 'httpsProxy', 'one'],
    ['NO_PROXY', 'noProxy', 'one'],
    ['no_proxy', 'noProxy', 'one'],
    ['SSL_CERT_FILE', 'sslCertFile', 'one'],
    ['NODE_EXTRA_CA_CERTS', 'extraCaFile', 'one'],
    ['PEEL_CERTS_DIR', 'peelCertsDir', 'one'],
  ])('%s is %s', (name, key, value) => {
    expect(readEnvironment({ [name]: 'one' })).toMatchObject({ [key]: value });
    expect(readEnvironment({ [name]: '' })).toMatchObject({ [key]: undefined });
  });

  it('says where the configuration of registries is', () => {
    expect(certsDirs(readEnvironment({ PEEL_CERTS_DIR: '/a::/b/' }))).toEqual(['/a', '/b']);
    expect(certsDirs(readEnvironment({}))).toEqual([
      '/etc/peel/certs.d',
      '/etc/containerd/certs.d',
      '/etc/docker/certs.d',
    ]);
  });

  it('says which authorities are trusted in place of the system', () => {
    expect(rootCertificatesFile(readEnvironment({ SSL_CERT_FILE: '/ca.pem' }))).toBe('/ca.pem');
  });
});
