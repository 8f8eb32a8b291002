import { formatReference } from '../oci/reference.ts';
import { pullToContainerd } from '../snapshotter/pull/pull-to-containerd.ts';
import type { PulledImage } from '../snapshotter/pull/pull-to-containerd.ts';
import type { CliContext } from './context.ts';
import { handCredentials } from './hand-credentials.ts';
import { isRemoteSnapshotter } from './pull-wish.ts';
import type { ImageWish } from './pull-wish.ts';
import { withOrigins } from './with-origins.ts';

/** By this process itself. Errors: as `pullToContainerd`. */
export async function pullHere(context: CliContext, wish: ImageWish): Promise<PulledImage> {
  const { reference, platform, address, namespace, snapshotter, index, access } = wish;
  return await withOrigins(context, access, ({ open }) =>
    pullToContainerd(
      { openOrigin: open, address },
      {
        reference,
        platform: platform?.value,
        namespace,
        snapshotter,
        indexDigest: index,
        signal: context.signal,
        // Not before they were right: the daemon reads with them for the containers that run.
        onResolved: async () => {
          if (isRemoteSnapshotter(snapshotter))
            await handCredentials(context, formatReference(reference), access.credentials);
        },
        onProgress: context.progress.report,
        onWarning: context.warn,
      },
    ),
  );
}
