// A start of an image for its profile's sake: the command runs on a private mount, where every read is seen.
import { randomUUID } from 'node:crypto';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import type { Layer } from '../layer/layer.ts';
import { StartOrder } from '../layer/start-order.ts';
import type { Digest } from '../oci/digest.ts';
import type { LayerOrder, ProfileTable } from '../state/profiles.ts';
import { countedLayers } from './counted-layers.ts';
import { ImageError } from './errors.ts';
import type { OpenImageOptions } from './image.ts';
import type { LoadedImage } from './loaded-image.ts';
import { runBundle } from './run-bundle.ts';
import type { RunBundleOptions } from './run-bundle.ts';
import { ownIds, runnableConfig } from './runnable-config.ts';
import { writeBundle } from './runtime-bundle.ts';
import { serveMount } from './serve-mount.ts';
import type { ServeMountDeps } from './serve-mount.ts';

export interface RecordStartDeps extends ServeMountDeps {
  readonly profiles: ProfileTable;
}

export interface RecordStartOptions extends OpenImageOptions, Pick<RunBundleOptions, 'takeSignals'> {
  readonly reference: string;
  /** In place of the image's own; none: that. */
  readonly command: readonly string[];
  /** Whether the standard streams are a terminal. */
  readonly terminal: boolean;
  readonly onWarning: (warning: string) => void;
  /** The command runs next, on the standard streams. */
  readonly onReady: () => void;
}

export interface StartRecord {
  readonly reference: string;
  /** Manifest digest. */
  readonly image: Digest;
  readonly exitCode: number;
  /** Whether it was merged into the profile: not when it read nothing of a layer that a published index describes. */
  readonly recorded: boolean;
  /** Those that a published index describes, lowest first. */
  readonly layers: readonly RecordedLayer[];
}

export interface RecordedLayer {
  readonly layer: Digest;
  readonly spanCount: number;
  /** What this start touched, in order. */
  readonly spans: readonly number[];
  /** Starts in the profile of the layer, this one among them. */
  readonly runs: number;
}

/** Errors: ImageError, ERR_IMAGE_UNSUPPORTED when the command cannot be run here; nothing is mounted or kept then. */
export async function recordStart(deps: RecordStartDeps, options: RecordStartOptions): Promise<StartRecord> {
  const id = `peel-record-${randomUUID()}`;
  const dir = join(deps.root, 'records', id);
  const rootfs = join(dir, 'rootfs');
  // Strangers must not come to the setuid programs of an image.
  await mkdir(rootfs, { recursive: true, mode: 0o700 });
  try {
    return await recordOn(deps, options, { id, dir, rootfs });
  } finally {
    // Nothing that is still mounted there may be removed.
    await rm(dir, { recursive: true, force: true }).catch((error: unknown) =>
      deps.log.warn({ dir, error: String(error) }, 'the directory of a recorded start is left'),
    );
  }
}

interface Place {
  readonly id: string;
  readonly dir: string;
  readonly rootfs: string;
}

async function recordOn(
  deps: RecordStartDeps,
  options: RecordStartOptions,
  { id, dir, rootfs }: Place,
): Promise<StartRecord> {
  const { reference, signal } = options;
  let image: LoadedImage | undefined;
  let watch: Watch | undefined;
  const openImage: ServeMountDeps['openImage'] = async (...args) => {
    image = await deps.openImage(...args);
    watch = watchLayers(image.openLayers);
    return image;
  };
  const mount = await serveMount(
    // This start is recorded here, and not as one of those that anybody's mount is.
    {
      ...deps,
      openImage,
      lazily: deps.lazily && { lazy: deps.lazily.lazy, profiles: deps.lazily.profiles, recorder: undefined },
    },
    // Only root can give the container a place for its changes. The native server is the one that sees every read.
    {
      ...options,
      dir: rootfs,
      transport: 'native',
      writable: deps.uid === 0,
      upper: undefined,
      logPath: undefined,
    },
  );
  let exitCode: number;
  try {
    if (image === undefined || watch === undefined) throw new ImageError('ERR_IMAGE_CLOSED', `${reference} is closed`);
    mount.warnings.forEach(options.onWarning);
    const own = runnableConfig(image);
    const config = options.command.length === 0 ? own : { ...own, args: options.command };
    if (config.args.length === 0)
      throw new ImageError('ERR_IMAGE_UNSUPPORTED', `${reference} names no command: give one after --`);
    const rootless = deps.uid === 0 ? undefined : ownIds();
    await writeBundle({ dir, config, rootless, terminal: options.terminal, onWarning: options.onWarning });
    signal?.throwIfAborted();
    options.onReady();
    exitCode = await runBundle({ dir, id, takeSignals: options.takeSignals });
    // The last touches are on their way.
    await setImmediate();
    await setImmediate();
  } finally {
    watch?.stop();
    await mount.unmount();
  }
  return { ...merge(deps.profiles, image, watch.orders()), exitCode };
}

interface Watch {
  readonly orders: () => LayerOrder[];
  readonly stop: () => void;
}

function watchLayers(layers: readonly Layer[]): Watch {
  const orders = new Map<Digest, StartOrder>();
  const stops = [...new Set(layers)].map(({ descriptor, activity }) => {
    const order = new StartOrder();
    orders.set(descriptor.digest, order);
    return activity.observe({ touched: (spans, at) => order.add(spans, at) });
  });
  const counted = countedLayers(layers);
  return {
    orders: () => counted.map((each) => ({ ...each, spans: orders.get(each.layer)?.spans() ?? [] })),
    stop: () => stops.forEach((stop) => stop()),
  };
}

function merge(
  profiles: ProfileTable,
  { reference, digest }: LoadedImage,
  orders: readonly LayerOrder[],
): Omit<StartRecord, 'exitCode'> {
  const recorded = profiles.merge(digest, orders);
  const rows = profiles.get(digest);
  const layers = orders.map(({ layer, index, spanCount, spans }) => {
    const runs = rows.find((row) => row.layer === layer && row.index === index)?.runs ?? 0;
    return { layer, spanCount, spans, runs };
  });
  return { reference, image: digest, recorded, layers };
}
