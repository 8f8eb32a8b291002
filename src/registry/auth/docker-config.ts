// Docker's client configuration: `auths`, `credHelpers` and `credsStore` of config.json.
import { chmod, readFile, realpath, rename, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { makeDirectory } from '../../util/make-directory.ts';
import { RegistryError } from '../errors.ts';
import type { CallOptions } from '../interface.ts';
import { helperErase, helperGet, helperStore } from './credential-helper.ts';
import type { CredentialSource, Credentials } from './credentials.ts';

export interface DockerConfigOptions {
  /** The path of config.json; it need not exist. */
  readonly configFile: string;
  readonly helperTimeoutMs?: number | undefined;
}

interface DockerConfig {
  readonly auths: ReadonlyMap<string, Readonly<Record<string, unknown>>>;
  readonly credHelpers: ReadonlyMap<string, string>;
  readonly credsStore: string | undefined;
  /** The whole file, so that writing keeps what this version does not know. */
  readonly raw: Readonly<Record<string, unknown>>;
}

const dockerHubServer = 'https://index.docker.io/v1/';
const defaultHelperTimeoutMs = 15_000;

export class DockerCredentials implements CredentialSource {
  readonly #configFile: string;
  readonly #timeoutMs: number;

  constructor(options: DockerConfigOptions) {
    this.#configFile = options.configFile;
    this.#timeoutMs = options.helperTimeoutMs ?? defaultHelperTimeoutMs;
  }

  /** A helper set for the host decides alone; then the credentials store; then the file. Errors: CREDENTIALS_INVALID. */
  async lookup(host: string, options: CallOptions = {}): Promise<Credentials | undefined> {
    const config = await readConfig(this.#configFile);
    const server = serverOf(host);
    const helper = this.#helperFor(config, host);
    if (helper !== undefined) {
      const found = await helperGet(server, { name: helper, timeoutMs: this.#timeoutMs, ...options });
      if (found === 'missing')
        throw new RegistryError(
          'CREDENTIALS_INVALID',
          `credential helper docker-credential-${helper} for ${host} is not installed`,
        );
      return found;
    }
    if (config.credsStore !== undefined) {
      // A store that is not installed is passed over: config.json is often copied from another machine.
      const found = await helperGet(server, { name: config.credsStore, timeoutMs: this.#timeoutMs, ...options });
      if (found !== undefined && found !== 'missing') return found;
    }
    const entry = config.auths.get(host) ?? [...config.auths].find(([key]) => hostOf(key) === host)?.[1];
    return entry === undefined ? undefined : parseAuthEntry(entry, host, this.#configFile);
  }

  /** Keeps a password where lookup will find it: with the helper of the host when there is one, else in the file (mode 0600). Returns where. */
  async store(host: string, username: string, password: string, options: CallOptions = {}): Promise<string> {
    const config = await readConfig(this.#configFile);
    const helper = this.#helperFor(config, host) ?? config.credsStore;
    if (helper !== undefined) {
      await helperStore(serverOf(host), username, password, { name: helper, timeoutMs: this.#timeoutMs, ...options });
      return `docker-credential-${helper}`;
    }
    const auth = Buffer.from(`${username}:${password}`).toString('base64');
    await this.#writeAuths(config, new Map([...withoutHost(config, host), [serverOf(host), { auth }]]));
    return this.#configFile;
  }

  /** Forgets the credentials of a host; returns whether the file had any (a helper does not say). */
  async erase(host: string, options: CallOptions = {}): Promise<boolean> {
    const config = await readConfig(this.#configFile);
    const helper = this.#helperFor(config, host) ?? config.credsStore;
    if (helper !== undefined)
      await helperErase(serverOf(host), { name: helper, timeoutMs: this.#timeoutMs, ...options });
    const left = withoutHost(config, host);
    const had = left.size < config.auths.size;
    if (had) await this.#writeAuths(config, left);
    return had || helper !== undefined;
  }

  #helperFor(config: DockerConfig, host: string): string | undefined {
    return config.credHelpers.get(host) ?? [...config.credHelpers].find(([key]) => hostOf(key) === host)?.[1];
  }

  async #writeAuths(config: DockerConfig, auths: ReadonlyMap<string, unknown>): Promise<void> {
    const text = `${JSON.stringify({ ...config.raw, auths: Object.fromEntries(auths) }, null, '\t')}\n`;
    await makeDirectory(path.dirname(this.#configFile), 0o700);
    // Where the file is a link into somebody's dotfiles it stays one.
    const file = await realpath(this.#configFile).catch(() => this.#configFile);
    const temporary = `${file}.${process.pid}.tmp`;
    await writeFile(temporary, text, { mode: 0o600 });
    await chmod(temporary, 0o600);
    await rename(temporary, file);
  }
}

function withoutHost(config: DockerConfig, host: string): Map<string, unknown> {
  return new Map([...config.auths].filter(([key]) => key !== host && hostOf(key) !== host));
}

/** The name under which docker keeps the credentials of a host. */
function serverOf(host: string): string {
  return host === 'docker.io' ? dockerHubServer : host;
}

/** Keys may be hosts or URLs: `https://index.docker.io/v1/`, `https://ghcr.io`, `ghcr.io/v2/`. */
function hostOf(key: string): string {
  const host = key.replace(/^https?:\/\//, '').replace(/\/.*$/s, '');
  return ['index.docker.io', 'registry-1.docker.io', 'registry.hub.docker.com'].includes(host) ? 'docker.io' : host;
}

async function readConfig(file: string): Promise<DockerConfig> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') text = '{}';
    else throw new RegistryError('CREDENTIALS_INVALID', `cannot read docker's configuration ${file}`, { cause: error });
  }
  let raw: unknown;
  try {
    raw = JSON.parse(text);
  } catch {
    // Without a cause: the parser's message quotes the text, and the text holds secrets.
    throw new RegistryError('CREDENTIALS_INVALID', `docker's configuration ${file} is not valid json`);
  }
  if (!isObject(raw)) throw new RegistryError('CREDENTIALS_INVALID', `docker's configuration ${file} is not an object`);
  const auths = Object.entries(isObject(raw['auths']) ? raw['auths'] : {});
  const credHelpers = Object.entries(isObject(raw['credHelpers']) ? raw['credHelpers'] : {});
  const credsStore = raw['credsStore'];
  return {
    auths: new Map(auths.filter((entry): entry is [string, Record<string, unknown>] => isObject(entry[1]))),
    credHelpers: new Map(
      credHelpers.filter((entry): entry is [string, string] => typeof entry[1] === 'string' && entry[1] !== ''),
    ),
    credsStore: typeof credsStore === 'string' && credsStore !== '' ? credsStore : undefined,
    raw,
  };
}

function parseAuthEntry(entry: Readonly<Record<string, unknown>>, host: string, file: string): Credentials | undefined {
  const field = (name: string): string => (typeof entry[name] === 'string' ? entry[name] : '');
  if (field('registrytoken') !== '') return { kind: 'access-token', token: field('registrytoken') };
  if (field('identitytoken') !== '') return { kind: 'refresh-token', token: field('identitytoken') };
  const auth = Buffer.from(field('auth'), 'base64').toString('utf8').replace(/\0+$/, '');
  if (auth !== '') {
    const colon = auth.indexOf(':');
    if (colon < 0)
      throw new RegistryError('CREDENTIALS_INVALID', `auth of ${host} in ${file} is not base64 of user:password`);
    return { kind: 'password', username: auth.slice(0, colon), password: auth.slice(colon + 1) };
  }
  const username = field('username');
  return username === '' ? undefined : { kind: 'password', username, password: field('password') };
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
