// Docker's client configuration and podman's, which has the same form: credentials in the file, in a helper's keeping, or in a store's.
import { chmod, realpath, rename, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { makeDirectory } from '../../util/make-directory.ts';
import { RegistryError } from '../errors.ts';
import type { CallOptions } from '../interface.ts';
import { AuthConfigFile } from './auth-config-file.ts';
import { credentialsOf, helperOf, isKeyOf, serverOf } from './auth-config.ts';
import type { AuthConfig } from './auth-config.ts';
import { helperErase, helperStore } from './credential-helper.ts';
import type { CredentialSource, Credentials, LookupOptions } from './credentials.ts';
import { HelperAnswers } from './helper-answers.ts';

export interface DockerConfigOptions {
  /** The path of config.json or auth.json; it need not exist. */
  readonly configFile: string;
  readonly helperTimeoutMs?: number | undefined;
  readonly now?: (() => number) | undefined;
}

export const defaultHelperTimeoutMs = 15_000;

export class DockerCredentials implements CredentialSource {
  readonly #file: AuthConfigFile;
  readonly #timeoutMs: number;
  readonly #helpers: HelperAnswers;

  constructor(options: DockerConfigOptions) {
    this.#file = new AuthConfigFile(options.configFile);
    this.#timeoutMs = options.helperTimeoutMs ?? defaultHelperTimeoutMs;
    this.#helpers = new HelperAnswers({ timeoutMs: this.#timeoutMs, now: options.now });
  }

  async lookup(host: string, options: LookupOptions = {}): Promise<Credentials | undefined> {
    return await lookupIn(await this.#file.read(options), this.#helpers, host, options);
  }

  /** Keeps a password where lookup will find it: with the helper of the host when there is one, else in the file (mode 0600). Returns where. */
  async store(host: string, username: string, password: string, options: CallOptions = {}): Promise<string> {
    const config = await this.#file.read({ fresh: true });
    const helper = helperOf(config, host) ?? config.credsStore;
    if (helper !== undefined) {
      this.#helpers.forget(helper, serverOf(host));
      await helperStore(serverOf(host), username, password, { name: helper, timeoutMs: this.#timeoutMs, ...options });
      return `docker-credential-${helper}`;
    }
    const auth = Buffer.from(`${username}:${password}`).toString('base64');
    await this.#writeAuths(config, new Map([...withoutHost(config, host), [serverOf(host), { auth }]]));
    return this.#file.path;
  }

  /** Forgets the credentials of a host; returns whether the file had any (a helper does not say). */
  async erase(host: string, options: CallOptions = {}): Promise<boolean> {
    const config = await this.#file.read({ fresh: true });
    const helper = helperOf(config, host) ?? config.credsStore;
    if (helper !== undefined) {
      this.#helpers.forget(helper, serverOf(host));
      await helperErase(serverOf(host), { name: helper, timeoutMs: this.#timeoutMs, ...options });
    }
    const left = withoutHost(config, host);
    const had = left.size < config.auths.size;
    if (had) await this.#writeAuths(config, left);
    return had || helper !== undefined;
  }

  async #writeAuths(config: AuthConfig, auths: ReadonlyMap<string, unknown>): Promise<void> {
    const text = `${JSON.stringify({ ...config.raw, auths: Object.fromEntries(auths) }, null, '\t')}\n`;
    await makeDirectory(path.dirname(this.#file.path), 0o700);
    // Where the file is a link into somebody's dotfiles it stays one.
    const file = await realpath(this.#file.path).catch(() => this.#file.path);
    const temporary = `${file}.${process.pid}.tmp`;
    await writeFile(temporary, text, { mode: 0o600 });
    await chmod(temporary, 0o600);
    await rename(temporary, file);
  }
}

/** A helper set for the host decides alone; then the credentials store; then the text itself. Errors: CREDENTIALS_INVALID. */
export async function lookupIn(
  config: AuthConfig,
  helpers: HelperAnswers,
  host: string,
  options: LookupOptions = {},
): Promise<Credentials | undefined> {
  const helper = helperOf(config, host);
  if (helper !== undefined) {
    const found = await helpers.get(helper, serverOf(host), options);
    if (found === 'missing')
      throw new RegistryError(
        'CREDENTIALS_INVALID',
        `credential helper docker-credential-${helper} for ${host} is not installed`,
      );
    return found;
  }
  if (config.credsStore !== undefined) {
    // A store that is not installed is passed over: config.json is often copied from another machine.
    const found = await helpers.get(config.credsStore, serverOf(host), options);
    if (found !== undefined && found !== 'missing') return found;
  }
  return credentialsOf(config, host, options.repository);
}

function withoutHost(config: AuthConfig, host: string): Map<string, unknown> {
  return new Map([...config.auths].filter(([key]) => !isKeyOf(key, host)));
}
