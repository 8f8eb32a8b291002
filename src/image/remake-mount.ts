// A mount of an earlier daemon, made again: the same image by its digest, at its directory, with its changes.
import { dirname, join } from 'node:path';
import { formatReference, parseReference } from '../oci/reference.ts';
import type { MountRow } from '../state/mounts.ts';
import { errorMessage } from '../layer/errors.ts';
import { ImageError } from './errors.ts';
import { checkMountTarget } from './mount-target.ts';
import { mountsAt, readMountInfo } from './mountinfo.ts';
import type { LoadedImage } from './loaded-image.ts';
import { mountImage, mountOwner } from './serve-mount.ts';
import type { Mounting, ServedMount, ServeMountDeps } from './serve-mount.ts';
import type { Served, TransportChoice } from './transports/transport.ts';
import { isOurs } from './umount.ts';
import { prepareWritable } from './writable.ts';
import { unlessFull } from '../state/unless-full.ts';

/** Asks nobody for what is cached. Errors: ImageError; the row and the changes of a writable mount stay as they are. */
export async function remakeMount(
  deps: ServeMountDeps,
  row: MountRow,
  { signal }: { readonly signal?: AbortSignal | undefined } = {},
): Promise<ServedMount> {
  const image = await deps.openImage(byDigest(row), { pull: 'missing', signal }, row.id);
  try {
    signal?.throwIfAborted();
    const adopted = await adopt(deps, row, image, signal);
    if (adopted !== undefined) return adopted;
    // Between the two mounts there is none: without a word in the row, whoever looks then, or finds what a killed process left,
    // would take it for one that somebody unmounted, and throw its changes away.
    const isSaid = unlessFull(() => deps.mounts.fail(row.id, 'it was being made again'));
    if (!isSaid && row.upper !== undefined)
      throw new ImageError('ERR_MOUNT_TARGET', `${row.dir} has changes, and nothing can be recorded: the disk is full`);
    await takeDeadAway(deps, row);
    const dir = await checkMountTarget(row.dir);
    const mountDir = join(deps.root, 'mounts', row.id);
    const writable =
      row.upper === undefined ? undefined : await prepareWritable(mountDir, { upper: dirname(row.upper) }, deps.uid);
    const mounting: Mounting = { id: row.id, dir, mountDir, image, writable, earlier: row };
    const mount = (transport: TransportChoice) =>
      mountImage(
        deps,
        { transport, logPath: undefined, daemon: true, readAhead: row.readAhead, fill: row.fill, signal },
        mounting,
      );
    try {
      return await mount(row.transport as TransportChoice);
    } catch (error) {
      if (!(error instanceof ImageError) || error.code !== 'ERR_MOUNT_TRANSPORT') throw error;
      return await mount('auto');
    }
  } catch (error) {
    await image.close();
    throw error;
  }
}

/** Where its connection was kept and what is mounted is still there, it goes on as if nothing had been. */
async function adopt(
  deps: ServeMountDeps,
  row: MountRow,
  image: LoadedImage,
  signal: AbortSignal | undefined,
): Promise<ServedMount | undefined> {
  const [kept, ...others] = deps.connections?.take(mountOwner(row.id)) ?? [];
  for (const other of others) await other.end();
  if (kept === undefined) return undefined;
  const { dir } = row;
  const top = mountsAt(await readMountInfo(), dir).at(-1);
  const transport = deps.transports.find(({ name }) => name === row.transport);
  if (transport?.adopt === undefined || top === undefined || !isOurs(top, [row])) {
    await kept.end();
    return undefined;
  }
  const log = deps.log.child({ mount: row.id });
  let served: Served | undefined;
  try {
    served = await transport.adopt({ image, dir, finalDir: dir, log, signal }, kept);
  } catch (error) {
    await kept.end();
    log.warn({ dir, error: errorMessage(error) }, 'mount cannot be adopted: it is made anew');
  }
  if (served === undefined) return undefined;
  const mountDir = join(deps.root, 'mounts', row.id);
  const changes = row.upper === undefined ? undefined : dirname(row.upper);
  const writable =
    row.upper === undefined || changes === undefined
      ? undefined
      : { lower: join(mountDir, 'lower'), upper: row.upper, work: join(changes, 'work') };
  return await mountImage(
    deps,
    {
      transport: transport.name,
      logPath: undefined,
      daemon: true,
      readAhead: row.readAhead,
      fill: row.fill,
      signal,
    },
    { id: row.id, dir, mountDir, image, writable, earlier: row, adopted: { transport, served } },
  );
}

function byDigest({ reference, digest }: MountRow): string {
  return formatReference({ ...parseReference(reference), tag: undefined, digest });
}

/** Only once the image is open: until then the kernel may still serve what it has of it. */
async function takeDeadAway({ system }: ServeMountDeps, row: MountRow): Promise<void> {
  for (;;) {
    const top = mountsAt(await readMountInfo(), row.dir).at(-1);
    if (top === undefined) return;
    if (!isOurs(top, [row]))
      throw new ImageError(
        'ERR_MOUNT_TARGET',
        `something else (${top.fsType}) is mounted on ${row.dir}: unmount it first`,
      );
    await system.unmount(row.dir, { detach: true });
  }
}
