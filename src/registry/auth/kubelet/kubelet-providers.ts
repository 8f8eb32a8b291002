import { LRUCache } from 'lru-cache';
import type { Logger } from '../../../observe/log.ts';
import { OnceMap } from '../../../util/once-map.ts';
import type { CredentialSource, Credentials, LookupOptions } from '../credentials.ts';
import { ParsedFile } from '../parsed-file.ts';
import { bySpecificity, matchesImage } from './match-image.ts';
import { parseProviderConfig } from './provider-config.ts';
import type { ProviderConfig } from './provider-config.ts';
import { askProvider } from './provider-plugin.ts';
import type { ProviderAnswer } from './provider-plugin.ts';

export interface KubeletProvidersOptions {
  /** The kubelet's `--image-credential-provider-config`. */
  readonly configFile: string;
  /** Its `--image-credential-provider-bin-dir`. */
  readonly binDir: string;
  /** What the programs find in their environment besides what the configuration says. */
  readonly env: Readonly<Record<string, string>>;
  readonly log: Logger;
  /** Default 60 s, as the kubelet has it. */
  readonly timeoutMs?: number | undefined;
  readonly now?: (() => number) | undefined;
}

const defaultTimeoutMs = 60_000;
const maxAnswers = 1_000;

/** Credentials from the programs that a kubelet gets them from: they ask the cloud, and what they answer expires. */
export class KubeletProviders implements CredentialSource {
  readonly #options: KubeletProvidersOptions;
  readonly #file: ParsedFile<readonly ProviderConfig[]>;
  readonly #flights = new OnceMap<string, ProviderAnswer>();
  /** By provider and what the answer is good for. */
  readonly #kept = new LRUCache<string, { readonly answer: ProviderAnswer; readonly until: number }>({
    max: maxAnswers,
  });
  readonly #said = new Set<string>();

  constructor(options: KubeletProvidersOptions) {
    this.#options = options;
    const name = `kubelet credential provider configuration ${options.configFile}`;
    const parse = (text: string) => parseProviderConfig(text, name);
    this.#file = new ParsedFile({ path: options.configFile, name, parse, optional: false });
  }

  /** The first provider that knows decides; one that fails does not keep the others from being asked. Errors: CREDENTIALS_INVALID when none knew and one failed. */
  async lookup(host: string, options: LookupOptions = {}): Promise<Credentials | undefined> {
    const image = options.repository === undefined ? host : `${host}/${options.repository}`;
    let failure: unknown;
    for (const provider of await this.#file.read()) {
      if (!provider.matchImages.some((glob) => matchesImage(glob, image))) continue;
      if (provider.wantsServiceAccount) {
        this.#sayOnce(provider.name, 'needs the token of a pod, which only the kubelet has: it is not asked');
        continue;
      }
      try {
        const found = credentialsFor(image, await this.#answer(provider, host, image, options));
        if (found !== undefined) return found;
      } catch (error) {
        options.signal?.throwIfAborted();
        failure ??= error;
      }
    }
    if (failure !== undefined) throw failure as Error;
    return undefined;
  }

  /** Forgets what is kept. */
  reset(): void {
    this.#kept.clear();
    this.#said.clear();
  }

  async #answer(
    provider: ProviderConfig,
    host: string,
    image: string,
    { fresh = false, signal }: LookupOptions,
  ): Promise<ProviderAnswer> {
    const identity = JSON.stringify(provider);
    const keys = { Image: `${identity} ${image}`, Registry: `${identity} ${host}`, Global: identity };
    if (!fresh) {
      for (const key of [keys.Image, keys.Registry, keys.Global]) {
        const kept = this.#kept.get(key);
        if (kept !== undefined && kept.until > this.#now()) return kept.answer;
      }
    }
    const { binDir, env, timeoutMs = defaultTimeoutMs } = this.#options;
    return await this.#flights.run(
      keys.Image,
      async (flight) => {
        const answer = await askProvider({ provider, binDir, image, env, timeoutMs, signal: flight });
        // What was refused goes, whatever it was good for.
        if (fresh) for (const key of Object.values(keys)) this.#kept.delete(key);
        const lifetimeMs = answer.cacheMs ?? provider.cacheMs;
        if (lifetimeMs > 0) this.#kept.set(keys[answer.cacheKey], { answer, until: this.#now() + lifetimeMs });
        return answer;
      },
      { signal },
    );
  }

  #sayOnce(provider: string, what: string): void {
    if (this.#said.has(provider)) return;
    this.#said.add(provider);
    this.#options.log.warn({ provider }, `kubelet credential provider ${provider} ${what}`);
  }

  #now(): number {
    return this.#options.now?.() ?? performance.now();
  }
}

function credentialsFor(image: string, { auth }: ProviderAnswer): Credentials | undefined {
  const [key] = [...auth.keys()].filter((glob) => matchesImage(glob, image)).sort(bySpecificity);
  const found = key === undefined ? undefined : auth.get(key);
  return found === undefined ? undefined : { kind: 'password', ...pick(found) };
}

/** Without what else the program may have answered. */
function pick({ username, password }: { readonly username: string; readonly password: string }) {
  return { username, password };
}
