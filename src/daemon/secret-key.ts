// The key that pull secrets are kept with. It never lies where they do: who takes the state directory takes nothing that can be read.
import { constants } from 'node:fs';
import { open, realpath } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { join, sep } from 'node:path';
import { ConfigError } from '../config/errors.ts';

export interface SecretKeyOptions {
  /** `credentials.key_file`; goes before systemd's. */
  readonly keyFile: string | undefined;
  /** Where systemd puts the credentials of a service. */
  readonly credentialsDirectory: string | undefined;
  /** The state directory. */
  readonly root: string;
}

/** Name of the systemd credential. */
const credentialName = 'peel-key';
export const keyBytes = 32;
const maxFileBytes = 1024;

/** Undefined when there is none. Errors: ERR_CONFIG_KEY naming the file and what is wrong with it. */
export async function readSecretKey(options: SecretKeyOptions): Promise<Buffer | undefined> {
  const { keyFile, credentialsDirectory, root } = options;
  if (keyFile !== undefined) return await readKey(keyFile, root, { forbidden: 0o077 });
  if (credentialsDirectory === undefined) return undefined;
  try {
    // systemd lets the service's user in by an access control list, which shows as rights of the group.
    return await readKey(join(credentialsDirectory, credentialName), root, { forbidden: 0o007 });
  } catch (error) {
    if (((error as Error).cause as NodeJS.ErrnoException | undefined)?.code === 'ENOENT') return undefined;
    throw error;
  }
}

async function readKey(path: string, root: string, { forbidden }: { readonly forbidden: number }): Promise<Buffer> {
  try {
    const [real, state] = [await realpath(path), await realpath(root)];
    if (real.startsWith(state + sep))
      throw unusable(path, `it is inside the state directory ${root}, and whoever copies that would have the key too`);
    await using file = await open(real, constants.O_RDONLY | constants.O_NONBLOCK);
    const found = await file.stat();
    if (!found.isFile()) throw unusable(path, 'it is not a file');
    if ((found.mode & forbidden) !== 0) {
      const mode = (found.mode & 0o777).toString(8).padStart(4, '0');
      throw unusable(path, `others may read it (mode ${mode}): chmod 0400 ${path}`);
    }
    return await decodeKey(file, path);
  } catch (error) {
    if (error instanceof ConfigError) throw error;
    throw unusable(path, `it cannot be read (${String((error as NodeJS.ErrnoException).code)})`, error);
  }
}

/** 32 bytes as they are, or written in hexadecimal or base64. */
async function decodeKey(file: FileHandle, path: string): Promise<Buffer> {
  const buffer = Buffer.alloc(maxFileBytes);
  try {
    const { bytesRead } = await file.read(buffer, 0, maxFileBytes, 0);
    const bytes = buffer.subarray(0, bytesRead);
    const text = bytes.toString('latin1').trim();
    let key: Buffer | undefined;
    if (bytesRead === keyBytes) key = Buffer.from(bytes);
    else if (/^[0-9A-Fa-f]{64}$/.test(text)) key = Buffer.from(text, 'hex');
    else if (/^[A-Za-z0-9+/_-]{43}=?$/.test(text)) key = Buffer.from(text, 'base64');
    if (key?.byteLength === keyBytes) return key;
    throw unusable(path, `expected ${keyBytes} bytes, or 64 hexadecimal digits, or base64: openssl rand -hex 32`);
  } finally {
    buffer.fill(0);
  }
}

function unusable(path: string, why: string, cause?: unknown): ConfigError {
  return new ConfigError('ERR_CONFIG_KEY', `the key of the pull secrets in ${path} cannot be used: ${why}`, { cause });
}
