// The certificate of a server, from files that may be replaced while it runs.
import { unwatchFile, watchFile } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createSecureContext } from 'node:tls';
import type { Server } from 'node:tls';
import { RegistryError } from '../errors.ts';

export interface ServerTlsOptions {
  /** PEM text, or the path of a file of it: the certificate, followed by those between it and the root. */
  readonly cert: string;
  readonly key: string;
  /** Whoever connects must show a certificate signed by one of these. */
  readonly ca?: string | undefined;
}

export interface LoadedTls {
  readonly cert: string;
  readonly key: string;
  readonly ca?: string;
  readonly requestCert: boolean;
  readonly rejectUnauthorized: boolean;
}

/** Errors: CREDENTIALS_INVALID for what is no certificate or does not fit its key; those of the file system. */
export async function loadTls(options: ServerTlsOptions): Promise<LoadedTls> {
  const cert = await pemOf(options.cert);
  const key = await pemOf(options.key);
  const ca = options.ca === undefined ? {} : { ca: await pemOf(options.ca) };
  try {
    createSecureContext({ cert, key, ...ca });
  } catch (cause) {
    const name = isPem(options.cert) ? 'the certificate' : `certificate ${options.cert}`;
    throw new RegistryError('CREDENTIALS_INVALID', `${name} and its key cannot be used`, { cause });
  }
  const asksClients = options.ca !== undefined;
  return { cert, key, ...ca, requestCert: asksClients, rejectUnauthorized: asksClients };
}

/**
 * New connections get the certificate that lies in the files now. Files that cannot be used change nothing and are reported. Returns what ends the
 * watch.
 */
export function followTlsFiles(
  server: Server,
  options: ServerTlsOptions,
  checkEveryMs: number,
  onError: (error: unknown) => void,
): () => void {
  const files = [options.cert, options.key, options.ca].filter(
    (text) => text !== undefined && !isPem(text),
  ) as string[];
  const reload = () => {
    loadTls(options)
      .then((loaded) => server.setSecureContext(loaded))
      .catch(onError);
  };
  // Asking for the time of change also notices files that are renamed into place, through symlinks too.
  for (const file of files) watchFile(file, { interval: checkEveryMs, persistent: false }, reload);
  return () => {
    for (const file of files) unwatchFile(file, reload);
  };
}

function isPem(text: string): boolean {
  return text.includes('-----BEGIN ');
}

async function pemOf(text: string): Promise<string> {
  return isPem(text) ? text : await readFile(text, 'utf8');
}
