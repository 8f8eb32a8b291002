// Secrets as the API server lists and watches them (core/v1), reduced to the pull secrets in them.
import { z } from 'zod';
import { RegistryError } from '../../errors.ts';
import { parseAuthConfig } from '../auth-config.ts';
import type { AuthConfig } from '../auth-config.ts';

/** Type of a secret → the key of its data. */
export const pullSecretTypes = {
  'kubernetes.io/dockerconfigjson': '.dockerconfigjson',
  'kubernetes.io/dockercfg': '.dockercfg',
} as const;

export type PullSecretType = keyof typeof pullSecretTypes;

export interface KubeSecret {
  /** `namespace/name` */
  readonly name: string;
  /** When it was made, as the server writes it: sorts by time. */
  readonly createdAt: string;
  readonly config: AuthConfig;
}

const metadata = z.looseObject({
  name: z.string(),
  namespace: z.string(),
  creationTimestamp: z.string().nullish(),
  resourceVersion: z.string().nullish(),
});
const secretSchema = z.looseObject({ metadata, data: z.record(z.string(), z.string()).nullish() });
const listSchema = z.looseObject({
  metadata: z.looseObject({ resourceVersion: z.string(), continue: z.string().nullish() }),
  items: z.array(z.unknown()).nullish(),
});
const eventSchema = z.looseObject({
  type: z.enum(['ADDED', 'MODIFIED', 'DELETED', 'BOOKMARK', 'ERROR']),
  object: z.looseObject({
    code: z.number().nullish(),
    metadata: z.looseObject({ resourceVersion: z.string().nullish() }).nullish(),
  }),
});

export interface WatchEvent {
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED' | 'BOOKMARK' | 'ERROR';
  readonly object: unknown;
  /** HTTP status of an ERROR. */
  readonly code: number | undefined;
  readonly resourceVersion: string | undefined;
}

/** Errors: RESPONSE_INVALID. */
export function parseSecretList(text: string) {
  const { metadata: list, items } = checked(listSchema, text);
  return { resourceVersion: list.resourceVersion, continueAt: list.continue || undefined, items: items ?? [] };
}

/** One line of a watch. Errors: RESPONSE_INVALID. */
export function parseWatchEvent(line: string): WatchEvent {
  const { type, object } = checked(eventSchema, line);
  return {
    type,
    object,
    code: object.code ?? undefined,
    resourceVersion: object.metadata?.resourceVersion ?? undefined,
  };
}

/** `namespace/name` of a secret; undefined for what is none. */
export function nameOfSecret(object: unknown): string | undefined {
  const found = secretSchema.safeParse(object);
  return found.success ? `${found.data.metadata.namespace}/${found.data.metadata.name}` : undefined;
}

/** Errors: CREDENTIALS_INVALID naming the secret, RESPONSE_INVALID for what is none. */
export function parseSecret(object: unknown, type: PullSecretType): KubeSecret {
  const found = secretSchema.safeParse(object);
  if (!found.success) throw new RegistryError('RESPONSE_INVALID', 'the api server answered with what is no secret');
  const { metadata: own, data } = found.data;
  const name = `${own.namespace}/${own.name}`;
  const text = Buffer.from(data?.[pullSecretTypes[type]] ?? '', 'base64').toString('utf8');
  return { name, createdAt: own.creationTimestamp ?? '', config: configIn(text, type, `secret ${name}`) };
}

/** The older form is the bare list of what the newer one has under `auths`. */
function configIn(text: string, type: PullSecretType, name: string): AuthConfig {
  if (type === 'kubernetes.io/dockerconfigjson') return parseAuthConfig(text, name);
  const { raw } = parseAuthConfig(text, name);
  return parseAuthConfig(JSON.stringify({ auths: raw }), name);
}

function checked<T>(schema: z.ZodType<T>, text: string): T {
  const found = schema.safeParse(jsonOf(text));
  if (found.success) return found.data;
  const where = found.error.issues[0]?.path.join('.') || 'the document';
  throw new RegistryError('RESPONSE_INVALID', `the api server answered with something that is not valid (${where})`);
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
