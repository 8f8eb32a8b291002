// What may be asked of the control API, checked before anything is done with it.
import { z } from 'zod';
import type { IndexMode } from '../image/image.ts';
import { isDigest } from '../oci/digest.ts';
import { parsePlatform } from '../oci/platform.ts';
import type { Platform } from '../oci/platform.ts';
import { parseReference } from '../oci/reference.ts';
import type { Credentials } from '../registry/auth/credentials.ts';
import { DaemonError } from './errors.ts';

export const absolutePath = z
  .string()
  .max(4096)
  .regex(/^\/[^\0]*$/, 'expected an absolute path');

export const reference = z
  .string()
  .max(4096)
  .superRefine((text, context) => {
    const wrong = wrongReference(text);
    if (wrong !== undefined) context.addIssue({ code: 'custom', message: wrong });
  });

const indexMode = z.string().transform((text, context): IndexMode => {
  if (text === 'auto' || text === 'require' || text === 'never' || isDigest(text)) return text;
  context.addIssue({ code: 'custom', message: 'expected auto, require, never, or a digest' });
  return z.NEVER;
});

export const platform = z
  .string()
  .max(256)
  .transform((text, context): Platform => {
    try {
      return parsePlatform(text);
    } catch (error) {
      context.addIssue({ code: 'custom', message: error instanceof Error ? error.message : 'not a platform' });
      return z.NEVER;
    }
  });

export const mountRequest = z
  .strictObject({
    reference,
    dir: absolutePath,
    transport: z.enum(['auto', 'kernel', 'native', 'fuse-native']).default('auto'),
    writable: z.boolean().default(false),
    upper: absolutePath.optional(),
    readAhead: z.boolean().default(true),
    fill: z.boolean().default(false),
    index: indexMode.prefault('auto'),
    pull: z.enum(['always', 'missing', 'never']).default('always'),
    platform: platform.optional(),
  })
  .refine(({ upper, writable }) => upper === undefined || writable, 'upper needs writable');

export const unmountRequest = z.strictObject({ dir: absolutePath, detach: z.boolean().default(false) });

const secret = z.string().min(1).max(32_768);

/** As docker's configuration has them. */
export const credentialFields = {
  username: z.string().max(4096).optional(),
  password: secret.optional(),
  identityToken: secret.optional(),
  registryToken: secret.optional(),
};

/** One of a password, an identity token and a registry token. */
export function credentialsIn(
  { username, password, identityToken, registryToken }: z.output<z.ZodObject<typeof credentialFields>>,
  context: z.RefinementCtx,
): Credentials {
  if (registryToken !== undefined) return { kind: 'access-token', token: registryToken };
  if (identityToken !== undefined) return { kind: 'refresh-token', token: identityToken, username };
  if (username !== undefined && password !== undefined) return { kind: 'password', username, password };
  context.addIssue({ code: 'custom', message: 'expected username and password, identityToken, or registryToken' });
  return z.NEVER;
}

export const credentialsRequest = z
  .strictObject({ image: reference, ...credentialFields })
  .transform(({ image, ...fields }, context) => ({ image, credentials: credentialsIn(fields, context) }));

export const logsQuery = z.strictObject({
  tail: z.coerce.number().int().min(0).max(100_000).default(1_000),
  follow: z.enum(['0', '1']).default('0'),
});

export type MountRequest = z.input<typeof mountRequest>;
export type CredentialsRequest = z.output<typeof credentialsRequest>;

/** Errors: ERR_DAEMON_REQUEST naming the field; its value is not repeated, it may be a secret. */
export function checked<T>(schema: z.ZodType<T>, value: unknown): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const problems = result.error.issues
    .slice(0, 5)
    .map(({ path, message }) => `${path.join('.') || 'body'}: ${message}`);
  throw new DaemonError('ERR_DAEMON_REQUEST', problems.join('; '));
}

function wrongReference(text: string): string | undefined {
  try {
    const parsed = parseReference(text);
    const path = parsed.kind === 'layout' ? parsed.dir : parsed.kind === 'archive' ? parsed.file : '/';
    return path.startsWith('/') ? undefined : 'the path of an image on disk must be absolute';
  } catch (error) {
    return error instanceof Error ? error.message : 'not an image reference';
  }
}
