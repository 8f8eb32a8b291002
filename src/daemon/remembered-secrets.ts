// Credentials that images were pulled with, for exactly the repository they were pulled from.
import { LRUCache } from 'lru-cache';
import type { Logger } from '../observe/log.ts';
import { sameCredentials } from '../registry/auth/credentials.ts';
import type { Credentials } from '../registry/auth/credentials.ts';
import type { SecretTable } from '../state/secrets.ts';
import { openSecret, sealSecret } from './sealed-secret.ts';

export interface RememberedSecretsOptions {
  readonly table: SecretTable;
  /** 32 bytes, which this takes over and wipes when closed. Without one nothing is kept over a restart. */
  readonly key: Uint8Array | undefined;
  readonly log: Logger;
  /** Default 10 000. */
  readonly maxRecords?: number | undefined;
  readonly now?: (() => number) | undefined;
}

export interface RememberedSecret {
  readonly credentials: Credentials;
  /** They were handed out, and the registry did not take them. */
  readonly refused: boolean;
}

interface Kept {
  readonly credentials: Credentials;
  readonly size: number;
  handedOut: boolean;
  usedAt: number;
}

const defaultMaxRecords = 10_000;
const maxSecretBytes = 64 * 1024;
const maxTotalBytes = 16 * 1024 * 1024;
/** How exactly the last use is written down. */
const touchedEveryMs = 3_600_000;

export class RememberedSecrets {
  readonly #options: RememberedSecretsOptions;
  readonly #kept: LRUCache<string, Kept>;

  /** Opens what was kept before the last restart. */
  constructor(options: RememberedSecretsOptions) {
    this.#options = options;
    this.#kept = new LRUCache({
      max: options.maxRecords ?? defaultMaxRecords,
      maxSize: maxTotalBytes,
      sizeCalculation: ({ size }) => size,
      dispose: (_kept, scope, reason) => {
        if (reason === 'evict') this.#write((table) => table.delete(scope));
      },
    });
    this.#load();
  }

  get size(): number {
    return this.#kept.size;
  }

  /** The newest for a repository win. */
  remember(host: string, repository: string, credentials: Credentials): void {
    const scope = `${host}/${repository}`;
    const known = this.#kept.get(scope);
    if (known !== undefined && sameCredentials(known.credentials, credentials)) return this.#touch(scope, known);
    const plain = Buffer.from(JSON.stringify(credentials));
    try {
      if (plain.byteLength > maxSecretBytes) {
        this.#options.log.warn({ scope }, `a pull secret of more than ${maxSecretBytes} bytes is not remembered`);
        return;
      }
      const usedAt = this.#now();
      this.#kept.set(scope, { credentials, size: scope.length + plain.byteLength, handedOut: false, usedAt });
      const { key } = this.#options;
      if (key === undefined) return;
      const sealed = sealSecret(key, scope, plain);
      this.#write((table) => table.put(scope, sealed, usedAt));
    } finally {
      plain.fill(0);
    }
  }

  /** `fresh`: the registry refused what was handed out last; what came since then is as good as new. */
  get(host: string, repository: string, { fresh = false }: { readonly fresh?: boolean | undefined } = {}) {
    const scope = `${host}/${repository}`;
    const kept = this.#kept.get(scope);
    if (kept === undefined) return undefined;
    const found: RememberedSecret = { credentials: kept.credentials, refused: fresh && kept.handedOut };
    kept.handedOut = true;
    if (!found.refused) this.#touch(scope, kept);
    return found;
  }

  /** Forgets these, unless others have taken their place. */
  forget(host: string, repository: string, credentials: Credentials): void {
    const scope = `${host}/${repository}`;
    if (!sameCredentials(this.#kept.peek(scope)?.credentials, credentials)) return;
    this.#kept.delete(scope);
    this.#write((table) => table.delete(scope));
  }

  /** Wipes what is in memory. Idempotent. */
  close(): void {
    this.#kept.clear();
    this.#options.key?.fill(0);
  }

  #load(): void {
    const { table, key, log, maxRecords = defaultMaxRecords } = this.#options;
    if (key === undefined) return;
    this.#write(() => table.prune(maxRecords));
    let unreadable = 0;
    for (const { scope, sealed, usedAt } of table.list()) {
      const plain = openSecret(key, scope, sealed);
      const credentials = plain === undefined ? undefined : parseCredentials(plain.toString('utf8'));
      if (plain === undefined || credentials === undefined) unreadable += 1;
      else {
        const size = scope.length + plain.byteLength;
        this.#kept.set(scope, { credentials, size, handedOut: false, usedAt });
      }
      plain?.fill(0);
    }
    if (unreadable > 0)
      log.warn({ unreadable }, 'remembered pull secrets are passed over: sealed with another key, or damaged');
  }

  #touch(scope: string, kept: Kept): void {
    const now = this.#now();
    if (now - kept.usedAt < touchedEveryMs) return;
    kept.usedAt = now;
    this.#write((table) => table.touch(scope, now));
  }

  /** That a secret cannot be kept over a restart is no reason to fail a pull. */
  #write(work: (table: SecretTable) => void): void {
    const { table, key, log } = this.#options;
    if (key === undefined) return;
    try {
      work(table);
    } catch (error) {
      log.warn({ err: error }, 'the remembered pull secrets could not be written');
    }
  }

  #now(): number {
    return (this.#options.now ?? Date.now)();
  }
}

function parseCredentials(text: string): Credentials | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  const { kind, username, password, token } = (value ?? {}) as Readonly<Record<string, unknown>>;
  if (kind === 'password' && typeof username === 'string' && typeof password === 'string')
    return { kind, username, password };
  if (kind === 'access-token' && typeof token === 'string') return { kind, token };
  if (kind === 'refresh-token' && typeof token === 'string')
    return { kind, token, ...(typeof username === 'string' ? { username } : {}) };
  return undefined;
}
