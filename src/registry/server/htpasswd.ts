// Users and their bcrypt hashes, one `user:hash` a line, as `htpasswd -B` writes them.
import { createHmac, randomBytes } from 'node:crypto';
import { readFile, stat } from 'node:fs/promises';
import { RegistryError } from '../errors.ts';
import { PasswordCheck } from './password-check.ts';

const maxFileBytes = 1024 * 1024;
/** How long a password that was right need not be compared again. */
const rememberMs = 60_000;
const maxRemembered = 1_000;

/** Who sent a request. */
export interface Authenticator {
  /** The user named by an Authorization header, undefined when it does not prove one. Errors: TOOMANYREQUESTS. */
  userOf(authorization: string | undefined): Promise<string | undefined>;
  close(): Promise<void>;
}

export class HtpasswdFile implements Authenticator {
  readonly #file: string;
  readonly #onError: (error: unknown) => void;
  readonly #passwords = new PasswordCheck();
  readonly #secret = randomBytes(32);
  /** Keyed hashes of user, hash and password, and until when they hold. Passwords themselves are not kept. */
  readonly #remembered = new Map<string, number>();
  #users: ReadonlyMap<string, string> = new Map();
  #version = '';

  private constructor(file: string, onError: (error: unknown) => void) {
    this.#file = file;
    this.#onError = onError;
  }

  /** Errors: CREDENTIALS_INVALID naming the line; those of the file system. A file that turns bad later is reported, and the users stay. */
  static async open(file: string, onError: (error: unknown) => void): Promise<HtpasswdFile> {
    const opened = new HtpasswdFile(file, onError);
    await opened.#load();
    return opened;
  }

  async userOf(authorization: string | undefined): Promise<string | undefined> {
    const sent = parseBasic(authorization);
    if (sent === undefined) return undefined;
    await this.#load().catch(this.#onError);
    const known = this.#users.get(sent.user);
    // An unknown user costs as much time as a wrong password.
    const hash = known ?? this.#hashOfNobody();
    const key = createHmac('sha256', this.#secret)
      .update(JSON.stringify([sent.user, hash, sent.password]))
      .digest('hex');
    if ((this.#remembered.get(key) ?? -Infinity) > performance.now()) return sent.user;
    const equal = await this.#passwords.compare(sent.password, hash);
    if (!equal || known === undefined) return undefined;
    this.#remember(key);
    return sent.user;
  }

  async close(): Promise<void> {
    await this.#passwords.close();
  }

  async #load(): Promise<void> {
    const { mtimeMs, size, ino } = await stat(this.#file);
    const version = `${mtimeMs} ${size} ${ino}`;
    if (version === this.#version) return;
    this.#version = version;
    if (size > maxFileBytes)
      throw new RegistryError('CREDENTIALS_INVALID', `password file ${this.#file} has ${size} bytes: too many`);
    this.#users = parseHtpasswd(await readFile(this.#file, 'utf8'), this.#file);
  }

  #remember(key: string): void {
    this.#remembered.delete(key);
    this.#remembered.set(key, performance.now() + rememberMs);
    for (const oldest of this.#remembered.keys()) {
      if (this.#remembered.size <= maxRemembered) return;
      this.#remembered.delete(oldest);
    }
  }

  /** As costly as the hashes of the file, and of no password: its salt and hash are all zeros. */
  #hashOfNobody(): string {
    const costs = [...this.#users.values()].map((hash) => hash.slice(4, 6));
    return `$2b$${costs.sort().at(-1) ?? '10'}$${'.'.repeat(53)}`;
  }
}

/** Errors: CREDENTIALS_INVALID naming the line. */
export function parseHtpasswd(text: string, file: string): ReadonlyMap<string, string> {
  const users = new Map<string, string>();
  for (const [index, line] of text.split(/\r?\n/).entries()) {
    if (line.trim() === '' || line.startsWith('#')) continue;
    const wrong = (why: string) =>
      new RegistryError('CREDENTIALS_INVALID', `password file ${file}, line ${index + 1}: ${why}`);
    const colon = line.indexOf(':');
    if (colon < 1) throw wrong('expected user:hash');
    const hash = line.slice(colon + 1).trim();
    if (!/^\$2[aby]\$(?:0[4-9]|1\d|2\d|3[01])\$[./A-Za-z0-9]{53}$/.test(hash))
      throw wrong('only bcrypt hashes are taken (htpasswd -B)');
    users.set(line.slice(0, colon), hash);
  }
  return users;
}

/** RFC 7617; UTF-8. */
function parseBasic(authorization: string | undefined): { user: string; password: string } | undefined {
  const encoded = /^basic +([A-Za-z0-9+/=_-]+) *$/i.exec(authorization ?? '')?.[1];
  if (encoded === undefined) return undefined;
  const text = Buffer.from(encoded, 'base64').toString('utf8');
  const colon = text.indexOf(':');
  return colon < 0 ? undefined : { user: text.slice(0, colon), password: text.slice(colon + 1) };
}
