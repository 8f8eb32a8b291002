// What may be asked about pulls over the control API, checked before anything is done with it.
import { z } from 'zod';
import { isDigest } from '../oci/digest.ts';
import type { Digest } from '../oci/digest.ts';
import { parseReference } from '../oci/reference.ts';
import type { RegistryReference } from '../oci/reference.ts';
import { isIdentifier } from '../snapshotter/containerd/identifier.ts';
import { absolutePath, credentialFields, credentialsIn, platform } from './control-requests.ts';

const registryReference = z
  .string()
  .max(4096)
  .transform((text, context): RegistryReference => {
    try {
      const parsed = parseReference(text);
      if (parsed.kind === 'registry') return parsed;
      context.addIssue({ code: 'custom', message: 'expected an image of a registry' });
    } catch (error) {
      context.addIssue({ code: 'custom', message: error instanceof Error ? error.message : 'not an image reference' });
    }
    return z.NEVER;
  });

const digest = z.custom<Digest>((value) => typeof value === 'string' && isDigest(value), 'expected a digest');

const identifier = z.string().max(76).refine(isIdentifier, 'expected a name that containerd takes');

const user = z.strictObject(credentialFields).transform(credentialsIn);

/** A list of directories is at most as long as Linux lets a variable be. */
const variable = z
  .string()
  .max(32_768)
  .regex(/^[^\0]*$/);

export const pullRequest = z.strictObject({
  reference: registryReference,
  platform: platform.optional(),
  /** Of containerd's socket. */
  address: absolutePath,
  namespace: identifier,
  snapshotter: identifier,
  /** The digest of the index that the snapshotter shall use. */
  index: digest.optional(),
  /** What the command line says of the registry. */
  user: user.optional(),
  caFile: absolutePath.optional(),
  insecure: z.boolean().default(false),
  /** Whether whoever asks may have stored credentials, so that it is worth asking for them. */
  hasCredentials: z.boolean(),
  variables: z.strictObject({
    peelCertsDir: variable.optional(),
    sslCertFile: absolutePath.optional(),
    extraCaFile: absolutePath.optional(),
    httpProxy: variable.optional(),
    httpsProxy: variable.optional(),
    noProxy: variable.optional(),
  }),
  place: z.strictObject({
    uid: z.number().int().min(0),
    files: z.string().max(256),
    network: z.string().max(256),
  }),
});

const pullId = z.string().max(64);

/** Whom a host is asked as; without `user` and `error` nobody. */
export const pullAnswer = z.strictObject({
  pull: pullId,
  ask: z.number().int().min(0),
  user: user.optional(),
  error: z.string().max(4096).optional(),
});

export const pullStop = z.strictObject({ pull: pullId });

export type PullRequest = z.output<typeof pullRequest>;
export type PullWish = z.input<typeof pullRequest>;
export type PullAnswer = z.output<typeof pullAnswer>;
