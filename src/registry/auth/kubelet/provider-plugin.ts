// Asking one kubelet credential provider (credentialprovider.kubelet.k8s.io): a request in JSON on standard input, an answer on standard output.
import { join } from 'node:path';
import { z } from 'zod';
import { runProgram } from '../../../util/run-program.ts';
import { RegistryError } from '../../errors.ts';
import type { CallOptions } from '../../interface.ts';
import { parseGoDuration } from './go-duration.ts';
import type { ProviderConfig } from './provider-config.ts';

export interface ProviderAnswer {
  /** What the answer is good for besides the image that was asked for. */
  readonly cacheKey: 'Image' | 'Registry' | 'Global';
  /** Undefined: as the configuration says. */
  readonly cacheMs: number | undefined;
  /** By a glob as in `matchImages`. */
  readonly auth: ReadonlyMap<string, { readonly username: string; readonly password: string }>;
}

export interface ProviderQuestion extends CallOptions {
  readonly provider: ProviderConfig;
  readonly binDir: string;
  /** `host/repository` */
  readonly image: string;
  /** What the program finds in its environment besides what its configuration says. */
  readonly env: Readonly<Record<string, string>>;
  readonly timeoutMs: number;
}

const answerSchema = z.looseObject({
  kind: z.literal('CredentialProviderResponse'),
  apiVersion: z.string(),
  cacheKeyType: z.enum(['Image', 'Registry', 'Global']),
  cacheDuration: z.string().nullish(),
  auth: z.record(z.string(), z.looseObject({ username: z.string(), password: z.string() })).nullish(),
});

/** Errors: CREDENTIALS_INVALID naming the provider, without anything that it said: that may hold a secret. */
export async function askProvider(question: ProviderQuestion): Promise<ProviderAnswer> {
  const { provider, binDir, image, env, timeoutMs, signal } = question;
  const fail = (what: string, cause?: unknown) =>
    new RegistryError('CREDENTIALS_INVALID', `kubelet credential provider ${provider.name} ${what}`, { cause });
  const result = await runProgram({
    command: join(binDir, provider.name),
    args: provider.args,
    env: { ...env, ...provider.env },
    input: JSON.stringify({ kind: 'CredentialProviderRequest', apiVersion: provider.apiVersion, image }),
    timeoutMs,
    signal,
    fail,
  });
  if (result === 'missing') throw fail(`is not in ${binDir}`);
  if (result.exitCode !== 0) throw fail(`ended with status ${result.exitCode}`);
  const answer = answerSchema.safeParse(jsonOf(result.stdout));
  if (!answer.success) {
    const where = answer.error.issues[0]?.path[0];
    throw fail(`answered with something that is not valid${where === undefined ? '' : ` (${String(where)})`}`);
  }
  const { apiVersion, cacheKeyType, cacheDuration, auth } = answer.data;
  if (apiVersion !== provider.apiVersion) throw fail(`answered in another version than ${provider.apiVersion}`);
  const cacheMs = typeof cacheDuration === 'string' ? parseGoDuration(cacheDuration) : undefined;
  if (typeof cacheDuration === 'string' && cacheMs === undefined)
    throw fail('answered with something that is not valid (cacheDuration)');
  return { cacheKey: cacheKeyType, cacheMs, auth: new Map(Object.entries(auth ?? {})) };
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
