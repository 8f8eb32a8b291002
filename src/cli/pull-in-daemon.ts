// The daemon has loaded all that a pull needs, and is asked for the layers anyway. Whose files and credentials count stays the same.
import { existsSync } from 'node:fs';
import { credentialPlaces } from '../config/credential-places.ts';
import { readEnvironment } from '../config/environment.ts';
import { registryVariables } from '../config/registry-variables.ts';
import { fieldsOf } from '../daemon/control-client.ts';
import type { ControlClient } from '../daemon/control-client.ts';
import { processPlace } from '../daemon/process-place.ts';
import { pullByDaemon } from '../daemon/pull-client.ts';
import type { PullListener } from '../daemon/pull-client.ts';
import type { PullWish } from '../daemon/pull-requests.ts';
import { errorCode } from '../layer/errors.ts';
import { formatReference } from '../oci/reference.ts';
import type { CredentialSource } from '../registry/auth/credentials.ts';
import type { PulledImage } from '../snapshotter/pull/pull-to-containerd.ts';
import type { CliContext } from './context.ts';
import { sayUserRefused } from './hand-credentials.ts';
import type { ImageWish } from './pull-wish.ts';

/** It is older or newer and does not know what is asked, is elsewhere, or about to end. */
const notByThisOne: ReadonlySet<string | undefined> = new Set([
  'ERR_NOT_FOUND',
  'ERR_METHOD',
  'ERR_DAEMON_REQUEST',
  'ERR_DAEMON_ELSEWHERE',
  'ERR_DAEMON_STOPPING',
]);

/** Undefined when it has to be done without this daemon. Errors: what the daemon says went wrong. */
export async function pullInDaemon(
  context: CliContext,
  daemon: ControlClient,
  wish: ImageWish,
): Promise<PulledImage | undefined> {
  const { signal, progress, warn } = context;
  const image = formatReference(wish.reference);
  const environment = readEnvironment();
  const places = credentialPlaces(environment, process.getuid?.() ?? 0);
  let stored: Promise<CredentialSource> | undefined;
  const lookup: PullListener['lookup'] = async ({ host, repository, fresh }, options) => {
    stored ??= import('../registry/auth/user-credentials.ts').then(({ userCredentials }) => userCredentials(places));
    return await (await stored).lookup(host, { ...options, repository, fresh });
  };
  try {
    return await pullByDaemon(daemon, request(), {
      signal,
      onProgress: progress.report,
      onWarning: warn,
      onUserRefused: (code) => sayUserRefused(context, daemon.socket, image, `it answered ${code}`),
      lookup,
    });
  } catch (error) {
    signal.throwIfAborted();
    if (notByThisOne.has(errorCode(error))) return undefined;
    throw error;
  }

  function request(): PullWish {
    const { platform, address, namespace, snapshotter, index, access } = wish;
    const { credentials, caFile, insecure } = access;
    return {
      reference: image,
      platform: platform?.text,
      address,
      namespace,
      snapshotter,
      index,
      user: credentials && fieldsOf(credentials),
      caFile,
      insecure,
      hasCredentials: places.inline !== undefined || places.files.some((file) => existsSync(file)),
      variables: registryVariables(environment),
      place: processPlace(),
    };
  }
}
