// Where the configuration of one registry is: the folder named like it below certs.d, with hosts.toml or docker's certificate files.
import { readFile, readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import type { ClientCertificate } from '../client/secure-context.ts';
import { RegistryError } from '../errors.ts';
import { ownEndpoint } from './host-endpoint.ts';
import type { HostConfig } from './host-endpoint.ts';

const maxFileBytes = 1024 * 1024;

/**
 * What the first folder that is there for `host` says, be it nothing; `_default` counts when there is none below any of `dirs`.
 * Errors: CONFIG_INVALID naming the file.
 */
export async function findHostConfig(host: string, dirs: readonly string[]): Promise<HostConfig | undefined> {
  for (const names of [namesOf(host), ['_default']]) {
    for (const dir of dirs) {
      for (const name of names) {
        const found = await readHostDir(path.join(dir, name));
        if (found !== undefined) return found;
      }
    }
  }
  return undefined;
}

/** A colon is no letter of file names everywhere: `localhost_5000_` goes before `localhost:5000`. */
function namesOf(host: string): string[] {
  const [, name, port] = /^(.+):(\d+)$/.exec(host) ?? [];
  return name === undefined ? [host] : [`${name}_${port}_`, host];
}

async function readHostDir(dir: string): Promise<HostConfig | undefined> {
  const file = path.join(dir, 'hosts.toml');
  const text = await readHostsFile(file);
  // containerd takes an empty file for none.
  if (text === undefined || text === '') return await readCertificateFiles(dir);
  const { parseHostsFile } = await import('./hosts-file.ts');
  return parseHostsFile(text, file);
}

async function readHostsFile(file: string): Promise<string | undefined> {
  try {
    const { size } = await stat(file);
    if (size > maxFileBytes)
      throw new RegistryError('CONFIG_INVALID', `${file}: expected at most ${maxFileBytes} bytes, it has ${size}`);
    return await readFile(file, 'utf8');
  } catch (error) {
    return missing(error, file);
  }
}

/** Docker's form: authorities in `*.crt`, client certificates in `*.cert` with the key in the `*.key` of the same name. */
async function readCertificateFiles(dir: string): Promise<HostConfig | undefined> {
  const names = new Set<string>();
  try {
    for (const name of (await readdir(dir)).sort()) names.add(name);
  } catch (error) {
    return missing(error, dir);
  }
  const caFiles: string[] = [];
  const clientCertificates: ClientCertificate[] = [];
  for (const name of names) {
    const file = path.join(dir, name);
    if (name.endsWith('.crt')) caFiles.push(file);
    if (!name.endsWith('.cert')) continue;
    const key = `${name.slice(0, -'.cert'.length)}.key`;
    clientCertificates.push({ certFile: file, keyFile: names.has(key) ? path.join(dir, key) : undefined });
  }
  return { endpoints: [{ ...ownEndpoint, caFiles, clientCertificates }], warnings: [] };
}

/** Undefined for what is not there. Errors: CONFIG_INVALID for what is there and cannot be read. */
function missing(error: unknown, name: string): undefined {
  if (error instanceof RegistryError) throw error;
  const { code } = error as NodeJS.ErrnoException;
  if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
  throw new RegistryError('CONFIG_INVALID', `cannot read ${name} (${code})`, { cause: error });
}
