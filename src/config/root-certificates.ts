import { existsSync } from 'node:fs';
import type { Environment } from './environment.ts';

/** Where distributions keep the authorities that the system trusts, in one PEM file (Go's crypto/x509 knows the same places). */
const places = [
  '/etc/ssl/certs/ca-certificates.crt',
  '/etc/pki/tls/certs/ca-bundle.crt',
  '/etc/ssl/ca-bundle.pem',
  '/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem',
  '/etc/ssl/cert.pem',
];

/** The system's certificate authorities: SSL_CERT_FILE, else the distribution's file; undefined where there is none. */
export function rootCertificatesFile({ sslCertFile }: Environment): string | undefined {
  return sslCertFile ?? places.find((file) => existsSync(file));
}
