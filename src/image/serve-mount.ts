// A mount and the process that serves it: this one.
import { randomUUID } from 'node:crypto';
import { realpath } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { errorCode, errorMessage } from '../layer/errors.ts';
import type { Logger } from '../observe/log.ts';
import type { MountRow, MountTable } from '../state/mounts.ts';
import { mountWithTransport } from './choose-transport.ts';
import type { ChosenTransport } from './choose-transport.ts';
import { ImageError } from './errors.ts';
import type { KeptConnections } from './kept-connections.ts';
import type { LayerStatus, OpenImageOptions } from './image.ts';
import type { LoadedImage } from './loaded-image.ts';
import { serveLazily } from './serve-lazily.ts';
import type { LazyService } from './serve-lazily.ts';
import type { MountSystem } from './mount-system.ts';
import { checkMountTarget } from './mount-target.ts';
import { mountsAt, readMountInfo } from './mountinfo.ts';
import { releaseMemory } from './release-memory.ts';
import { ownIdentity } from './process-identity.ts';
import type { Served, Transport, TransportChoice } from './transports/transport.ts';
import { listMounts } from './umount.ts';
import { dressUpper, prepareWritable, putOverlay, removeMountDir } from './writable.ts';
import type { WritablePaths } from './writable.ts';
import { unlessFull } from '../state/unless-full.ts';

export interface ServeMountOptions extends OpenImageOptions {
  readonly reference: string;
  readonly dir: string;
  readonly transport: TransportChoice;
  readonly writable: boolean;
  /** Only with `writable`: where the changes stay. */
  readonly upper: string | undefined;
  /** Where this process logs, for `peel mounts`. */
  readonly logPath: string | undefined;
  /** False: only what is read is fetched, neither what is likely to be next nor what a profile names; default true. */
  readonly readAhead?: boolean | undefined;
  /** All of the image is fetched in the end, with what reads leave of the link. */
  readonly fill?: boolean | undefined;
  /** This process is the daemon, which makes the mount again when it starts the next time. */
  readonly daemon?: boolean | undefined;
}

export interface ServeMountDeps {
  /** `id`: of the mount, for the log. */
  readonly openImage: (reference: string, options: OpenImageOptions, id: string) => Promise<LoadedImage>;
  /** Best first. */
  readonly transports: readonly Transport[];
  readonly system: MountSystem;
  readonly mounts: MountTable;
  /** Undefined: only what is read is fetched. */
  readonly lazily?: LazyService | undefined;
  /** Where FUSE connections outlive this process. */
  readonly connections?: KeptConnections | undefined;
  readonly root: string;
  readonly uid: number;
  readonly log: Logger;
}

export interface ServedMount {
  readonly row: MountRow;
  readonly warnings: readonly string[];
  /** Settles when the mount is gone, whoever unmounted it, and everything behind it is put away. Never rejects. */
  readonly closed: Promise<{ readonly reason: string }>;
  /** How its layers are served now, lowest first. */
  layers(): readonly LayerStatus[];
  /** Requests of the kernel that were answered with an error of ours. */
  errors(): number;
  /** Unmounts; a busy mount is detached and ends with its last user. */
  unmount(): Promise<void>;
  /** Ends the serving and leaves the mount, its row and its directories for the process that makes it again. */
  leave(): Promise<void>;
}

/** Errors: ImageError; nothing is left mounted or open then. Resolves once the directory serves. */
export async function serveMount(deps: ServeMountDeps, options: ServeMountOptions): Promise<ServedMount> {
  const id = randomUUID();
  const mountDir = join(deps.root, 'mounts', id);
  const dir = await checkMountTarget(options.dir);
  await refuseSharedUpper(deps, options.upper);
  let image: LoadedImage | undefined;
  try {
    const writable = options.writable ? await prepareWritable(mountDir, { upper: options.upper }, deps.uid) : undefined;
    image = await deps.openImage(options.reference, options, id);
    return await mountImage(deps, options, { id, dir, mountDir, image, writable });
  } catch (error) {
    await image?.close();
    await removeMountDir(mountDir);
    throw error;
  }
}

/** Two overlays that write to one directory have no defined meaning; the kernel only says so in its log. */
async function refuseSharedUpper(deps: ServeMountDeps, upper: string | undefined): Promise<void> {
  if (upper === undefined) return;
  const wanted = join(await realpath(upper).catch(() => resolve(upper)), 'upper');
  const user = (await listMounts(deps)).find((mount) => mount.upper === wanted);
  if (user !== undefined)
    throw new ImageError('ERR_MOUNT_UPPER', `${upper} already holds the changes of the mount on ${user.dir}`);
}

export interface Mounting {
  readonly id: string;
  readonly dir: string;
  readonly mountDir: string;
  readonly image: LoadedImage;
  readonly writable: WritablePaths | undefined;
  /** What it was before, when it is made again. */
  readonly earlier?: MountRow | undefined;
  /** It was never away: an earlier process served it until now. */
  readonly adopted?: Pick<ChosenTransport, 'transport' | 'served'> | undefined;
}

export function mountOwner(id: string): string {
  return `mount:${id}`;
}

/** Puts the open image at its place. Errors: ImageError; nothing is mounted then, and the image is still open. */
export async function mountImage(
  deps: ServeMountDeps,
  options: Pick<ServeMountOptions, 'transport' | 'logPath' | 'daemon' | 'readAhead' | 'fill' | 'signal'>,
  mounting: Mounting,
): Promise<ServedMount> {
  const { dir, image, writable, mountDir, id, earlier, adopted } = mounting;
  const { system, connections } = deps;
  const log = deps.log.child({ mount: id });
  const keep = options.daemon && connections ? () => connections.create(mountOwner(id)) : undefined;
  const request = { image, dir: writable?.lower ?? dir, finalDir: dir, log, keep, signal: options.signal };
  if (writable !== undefined && adopted === undefined) await dressUpper(writable.upper, image.rootEntry());
  const { transport, served, why } =
    adopted === undefined
      ? await mountWithTransport(deps.transports, options.transport, request)
      : { ...adopted, why: earlier?.why ?? '' };
  let attached = writable === undefined;
  try {
    if (writable !== undefined && adopted === undefined) {
      await putOverlay(system, dir, writable);
      attached = true;
    }
    const row: MountRow = {
      id,
      dir,
      reference: earlier?.reference ?? image.reference,
      digest: image.digest,
      transport: transport.name,
      why: earlier?.transport === transport.name ? earlier.why : why,
      writable: writable !== undefined,
      upper: writable?.upper,
      ...(await ownIdentity()),
      log: options.logPath,
      mountedAt: earlier?.mountedAt ?? Date.now(),
      daemon: options.daemon === true,
      readAhead: options.readAhead !== false,
      fill: options.fill === true,
      error: undefined,
      layers: [...new Set(image.openLayers.map((layer) => layer.descriptor.digest))],
    };
    const record = () => deps.mounts.put(row);
    if (earlier === undefined) record();
    else if (!unlessFull(record))
      log.warn({ dir }, 'the disk is full: the mount is recorded as the process before left it');
    const endLazily =
      deps.lazily === undefined
        ? async () => {}
        : serveLazily(deps.lazily, { image, dir, readAhead: row.readAhead, fill: row.fill, log });
    // After the answer: whoever waits for the mount need not wait for this.
    const said = adopted === undefined ? 'mounted' : 'mount goes on';
    setImmediate(() => log.info({ dir, reference: row.reference, transport: transport.name, why }, said));
    void releaseMemory().catch((error: unknown) =>
      log.debug({ error: errorMessage(error) }, 'memory was not given back'),
    );
    let unmounted = false;
    void served.closed.then(({ reason }) => (unmounted = reason === 'unmounted'));
    let isLeft = false;
    const closed = finish({ ...deps, log }, served, image, mountDir, { row, endLazily, isLeft: () => isLeft });
    const unmount = async () => {
      // What is there now may be somebody else's.
      if (!unmounted) await unmountOrDetach(system, dir);
      await closed;
    };
    const leave = async () => {
      // One that was detached and has users left is over with this process.
      isLeft = mountsAt(await readMountInfo(), dir).length > 0;
      await (isLeft && served.leave !== undefined ? served.leave() : served.stop());
      await closed;
    };
    return {
      row,
      warnings: [...image.warnings, ...served.warnings],
      closed,
      layers: () => image.layers(),
      errors: () => served.errors?.() ?? 0,
      unmount,
      leave,
    };
  } catch (error) {
    if (attached && adopted === undefined) await unmountOrDetach(system, dir);
    await served.stop();
    throw error;
  }
}

async function finish(
  deps: ServeMountDeps,
  served: Served,
  image: LoadedImage,
  mountDir: string,
  {
    row,
    endLazily,
    isLeft,
  }: { readonly row: MountRow; readonly endLazily: () => Promise<void>; readonly isLeft: () => boolean },
): Promise<{ reason: string }> {
  const ended = await served.closed;
  const isOver = ended.reason === 'unmounted' || !isLeft();
  const steps = [
    () => served.stop(),
    endLazily,
    () => image.close(),
    async () => (isOver ? await removeMountDir(mountDir) : undefined),
    async () => void (isOver && deps.mounts.delete(row.id)),
  ];
  for (const step of steps) {
    try {
      await step();
    } catch (error) {
      deps.log.warn({ dir: row.dir, error: errorMessage(error) }, 'cannot put everything of the mount away');
    }
  }
  deps.log.info({ dir: row.dir, reason: ended.reason }, 'mount ended');
  return ended;
}

async function unmountOrDetach(system: MountSystem, dir: string): Promise<void> {
  try {
    await system.unmount(dir, { detach: false });
  } catch (error) {
    // Not mounted any more: somebody was faster.
    if (errorCode(error) === 'EINVAL') return;
    await system.unmount(dir, { detach: true });
  }
}
