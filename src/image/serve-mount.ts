// A mount and the process that serves it: this one.
import { randomUUID } from 'node:crypto';
import { realpath } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { errorCode, errorMessage } from '../layer/errors.ts';
import type { Logger } from '../observe/log.ts';
import type { MountRow, MountTable } from '../state/mounts.ts';
import { mountWithTransport } from './choose-transport.ts';
import { ImageError } from './errors.ts';
import type { OpenImageOptions } from './image.ts';
import type { LoadedImage } from './loaded-image.ts';
import type { MountSystem } from './mount-system.ts';
import { checkMountTarget } from './mount-target.ts';
import { releaseMemory } from './release-memory.ts';
import { ownIdentity } from './process-identity.ts';
import type { Served, Transport, TransportChoice } from './transports/transport.ts';
import { listMounts } from './umount.ts';
import { dressUpper, prepareWritable, putOverlay, removeMountDir } from './writable.ts';
import type { WritablePaths } from './writable.ts';

export interface ServeMountOptions extends OpenImageOptions {
  readonly reference: string;
  readonly dir: string;
  readonly transport: TransportChoice;
  readonly writable: boolean;
  /** Only with `writable`: where the changes stay. */
  readonly upper: string | undefined;
  /** Where this process logs, for `peel mounts`. */
  readonly logPath: string | undefined;
}

export interface ServeMountDeps {
  readonly openImage: (reference: string, options: OpenImageOptions) => Promise<LoadedImage>;
  /** Best first. */
  readonly transports: readonly Transport[];
  readonly system: MountSystem;
  readonly mounts: MountTable;
  readonly root: string;
  readonly uid: number;
  readonly log: Logger;
}

export interface ServedMount {
  readonly row: MountRow;
  readonly warnings: readonly string[];
  /** Settles when the mount is gone, whoever unmounted it, and everything behind it is put away. Never rejects. */
  readonly closed: Promise<{ readonly reason: string }>;
  /** Unmounts; a busy mount is detached and ends with its last user. */
  unmount(): Promise<void>;
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
    image = await deps.openImage(options.reference, options);
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

interface Mounting {
  readonly id: string;
  readonly dir: string;
  readonly mountDir: string;
  readonly image: LoadedImage;
  readonly writable: WritablePaths | undefined;
}

async function mountImage(deps: ServeMountDeps, options: ServeMountOptions, mounting: Mounting): Promise<ServedMount> {
  const { dir, image, writable, mountDir, id } = mounting;
  const { log, system } = deps;
  const request = { image, dir: writable?.lower ?? dir, finalDir: dir, log, signal: options.signal };
  if (writable !== undefined) await dressUpper(writable.upper, image.rootEntry());
  const { transport, served, why } = await mountWithTransport(deps.transports, options.transport, request);
  let attached = writable === undefined;
  try {
    if (writable !== undefined) {
      await putOverlay(system, dir, writable);
      attached = true;
    }
    const row: MountRow = {
      id,
      dir,
      reference: image.reference,
      digest: image.digest,
      transport: transport.name,
      why,
      writable: options.writable,
      upper: writable?.upper,
      ...(await ownIdentity()),
      log: options.logPath,
      mountedAt: Date.now(),
      layers: [...new Set(image.openLayers.map((layer) => layer.descriptor.digest))],
    };
    deps.mounts.put(row);
    // After the answer: whoever waits for the mount need not wait for this.
    setImmediate(() => log.info({ dir, reference: image.reference, transport: transport.name, why }, 'mounted'));
    void releaseMemory().catch((error: unknown) =>
      log.debug({ error: errorMessage(error) }, 'memory was not given back'),
    );
    let unmounted = false;
    void served.closed.then(({ reason }) => (unmounted = reason === 'unmounted'));
    const closed = finish(deps, served, image, mountDir, row);
    const unmount = async () => {
      // What is there now may be somebody else's.
      if (!unmounted) await unmountOrDetach(system, dir);
      await closed;
    };
    return { row, warnings: [...image.warnings, ...served.warnings], closed, unmount };
  } catch (error) {
    if (attached) await unmountOrDetach(system, dir);
    await served.stop();
    throw error;
  }
}

async function finish(
  deps: ServeMountDeps,
  served: Served,
  image: LoadedImage,
  mountDir: string,
  row: MountRow,
): Promise<{ reason: string }> {
  const ended = await served.closed;
  const steps = [
    () => served.stop(),
    () => image.close(),
    () => removeMountDir(mountDir),
    async () => void deps.mounts.delete(row.id),
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
