// TLS to one registry: whom we trust, and as whom we present ourselves.
import { X509Certificate } from 'node:crypto';
import { readFile, stat } from 'node:fs/promises';
import { createSecureContext, rootCertificates } from 'node:tls';
import type { SecureContext } from 'node:tls';
import { RegistryError } from '../errors.ts';

export interface ClientCertificate {
  /** A PEM file with the certificate and those between it and its authority. */
  readonly certFile: string;
  /** A PEM file with its private key; undefined when that is in `certFile` too. */
  readonly keyFile?: string | undefined;
}

export interface TlsOptions {
  /** PEM files with certificate authorities to be trusted besides the roots. */
  readonly caFiles?: readonly string[] | undefined;
  /** The PEM file with the roots; default those of Node.js. */
  readonly rootsFile?: string | undefined;
  /** Shown to a server that asks; of several with keys of one kind the last is. */
  readonly clientCertificates?: readonly ClientCertificate[] | undefined;
  /** Take any certificate for any host. */
  readonly skipVerify?: boolean | undefined;
}

const maxFileBytes = 8 * 1024 * 1024;
const certificatePattern =
  /-----BEGIN (?:TRUSTED |X509 )?CERTIFICATE-----[^-]+-----END (?:TRUSTED |X509 )?CERTIFICATE-----/g;

/**
 * Undefined when Node.js's own defaults are meant. `host` is for messages.
 * Errors: CONFIG_INVALID naming the file that cannot be read or is not what it should be.
 */
export async function secureContextOf(options: TlsOptions, host: string): Promise<SecureContext | undefined> {
  const { caFiles = [], rootsFile, clientCertificates = [] } = options;
  if (caFiles.length === 0 && rootsFile === undefined && clientCertificates.length === 0) return undefined;
  const ca: (string | Buffer)[] =
    rootsFile === undefined ? [...rootCertificates] : [await readAuthorities(rootsFile, host)];
  for (const file of caFiles) ca.push(await readAuthorities(file, host, { checked: true }));
  const pairs: { readonly cert: Buffer; readonly key: Buffer }[] = [];
  for (const pair of clientCertificates) pairs.push(await readPair(pair, host));
  return createSecureContext({ ca, cert: pairs.map(({ cert }) => cert), key: pairs.map(({ key }) => key) });
}

/** `checked`: what a person named, where OpenSSL would pass over what it cannot read. */
async function readAuthorities(file: string, host: string, { checked = false } = {}): Promise<Buffer> {
  const pem = await readPem(file, 'certificate authorities', host);
  const certificates = pem.toString('latin1').match(certificatePattern) ?? [];
  if (certificates.length === 0) throw unusable(`${file} holds no certificate in PEM form`, host);
  if (checked) {
    try {
      certificates.forEach((text) => new X509Certificate(text));
    } catch (error) {
      throw unusable(`${file} holds a damaged certificate`, host, error);
    }
  }
  return pem;
}

async function readPair({ certFile, keyFile }: ClientCertificate, host: string) {
  const cert = await readPem(certFile, 'client certificate', host);
  const key = keyFile === undefined ? cert : await readPem(keyFile, 'key of the client certificate', host);
  try {
    createSecureContext({ cert, key });
  } catch (error) {
    const files = keyFile === undefined ? certFile : `${certFile} and ${keyFile}`;
    throw unusable(
      `${files}: expected a certificate and its private key in PEM form, without a passphrase`,
      host,
      error,
    );
  }
  return { cert, key };
}

async function readPem(file: string, what: string, host: string): Promise<Buffer> {
  try {
    const { size } = await stat(file);
    if (size > maxFileBytes) throw unusable(`${file} has ${size} bytes, more than the ${maxFileBytes} allowed`, host);
    return await readFile(file);
  } catch (error) {
    if (error instanceof RegistryError) throw error;
    const { code } = error as { readonly code?: unknown };
    throw unusable(`cannot read the ${what} in ${file} (${String(code)})`, host, error);
  }
}

function unusable(why: string, host: string, cause?: unknown): RegistryError {
  return new RegistryError('CONFIG_INVALID', `tls for ${host}: ${why}`, { cause });
}
