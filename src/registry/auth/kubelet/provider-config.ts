// The kubelet's CredentialProviderConfig (kubelet.config.k8s.io v1, v1beta1, v1alpha1), in YAML or JSON.
import { parse } from 'yaml';
import { z } from 'zod';
import { RegistryError } from '../../errors.ts';
import { parseGoDuration } from './go-duration.ts';

export interface ProviderConfig {
  /** Of the program in the folder of providers. */
  readonly name: string;
  readonly matchImages: readonly string[];
  readonly cacheMs: number;
  /** Of what it is asked and answers: `credentialprovider.kubelet.k8s.io/v1`. */
  readonly apiVersion: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  /** It wants the service account token of the pod, which is not known here. */
  readonly wantsServiceAccount: boolean;
}

const isName = (text: string) => /^[A-Za-z0-9._-]{1,253}$/.test(text) && text !== '.' && text !== '..';
const goDuration = z.string().transform((text, context) => {
  const ms = parseGoDuration(text);
  if (ms !== undefined && ms >= 0) return ms;
  context.addIssue({ code: 'custom', message: 'expected a time such as "12h"' });
  return z.NEVER;
});

const configSchema = z.looseObject({
  apiVersion: z.enum(['v1', 'v1beta1', 'v1alpha1'].map((version) => `kubelet.config.k8s.io/${version}`)),
  kind: z.literal('CredentialProviderConfig'),
  providers: z
    .array(
      z.looseObject({
        name: z.string().refine(isName, 'expected the name of a program, without slashes'),
        matchImages: z.array(z.string().min(1).max(1024)).min(1).max(1_000),
        defaultCacheDuration: goDuration,
        apiVersion: z.enum(
          ['v1', 'v1beta1', 'v1alpha1'].map((version) => `credentialprovider.kubelet.k8s.io/${version}`),
        ),
        args: z.array(z.string()).max(1_000).nullish(),
        env: z
          .array(z.looseObject({ name: z.string().regex(/^[^=\0]+$/), value: z.string() }))
          .max(1_000)
          .nullish(),
        tokenAttributes: z.unknown().optional(),
      }),
    )
    .max(100),
});

/** Errors: CREDENTIALS_INVALID naming the field; never the text, which may hold secrets for the providers. */
export function parseProviderConfig(text: string, name: string): readonly ProviderConfig[] {
  let document: unknown;
  try {
    document = parse(text, { maxAliasCount: 100 });
  } catch (error) {
    const [start] = (error as { readonly linePos?: readonly { readonly line: number }[] }).linePos ?? [];
    throw new RegistryError('CREDENTIALS_INVALID', `${name}: not valid yaml at line ${start?.line ?? 1}`);
  }
  const checked = configSchema.safeParse(document);
  if (!checked.success) {
    const [issue] = checked.error.issues;
    const where = issue?.path.join('.') || 'the document';
    throw new RegistryError('CREDENTIALS_INVALID', `${name}: ${where}: ${issue?.message ?? 'is not valid'}`);
  }
  return checked.data.providers.map((provider) => ({
    name: provider.name,
    matchImages: provider.matchImages,
    cacheMs: provider.defaultCacheDuration,
    apiVersion: provider.apiVersion,
    args: provider.args ?? [],
    env: Object.fromEntries((provider.env ?? []).map(({ name: variable, value }) => [variable, value])),
    wantsServiceAccount: provider.tokenAttributes !== undefined && provider.tokenAttributes !== null,
  }));
}
