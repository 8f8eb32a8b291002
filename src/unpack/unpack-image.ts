// All layers of an image in one directory: they are downloaded and decoded side by side, and applied one after the other as they come.
import { setMaxListeners } from 'node:events';
import { TreeWriter } from '../native/tree-writer.ts';
import type { TarEntry } from '../tar/entry.ts';
import { Deferred } from '../util/deferred.ts';
import { LayerApplier } from './apply/layer-applier.ts';
import { UnpackError } from './errors.ts';
import { QueuedSink } from './queued-sink.ts';
import type { StreamSink } from './stream-sink.ts';
import { unpackFailure } from './unpack-failure.ts';
import { UnpackPlace } from './unpack-place.ts';
import type { LayerToUnpack, UnpackImageRequest } from './unpacker.ts';

/** Passes one layer to the sink; `whole` resolves when its stream may go. */
export type PassOne = (
  layer: LayerToUnpack,
  work: { readonly sink: StreamSink; readonly whole: () => Promise<void>; readonly signal: AbortSignal },
) => Promise<void>;

/** Does what may fail for the directory's disk, and has the error name the directory. */
type Naming = (write: () => void) => void;

interface Work {
  readonly layer: LayerToUnpack;
  readonly stream: number;
  readonly sink: QueuedSink;
  readonly whole: Deferred<void>;
  /** Of a layer that the image has more than once. */
  readonly kept: (readonly TarEntry[])[] | undefined;
}

/** Errors: UnpackError; those of `pass`; the signal's reason. The directory is then as it was. */
export async function unpackImage(
  request: UnpackImageRequest,
  pass: PassOne,
  options: { readonly signal: AbortSignal },
): Promise<void> {
  if (request.layers.length === 0) throw new UnpackError('ERR_UNPACK_NO_LAYERS', `${request.image} has no layers`);
  await using place = await UnpackPlace.open(request.dir);
  const writer = TreeWriter.open(place.staging, { ownership: request.ownership });
  try {
    await writeImage(request, writer, pass, options.signal);
    warnOfSkipped(request, writer);
    await place.appear();
  } finally {
    await writer.close();
  }
}

async function writeImage(
  request: UnpackImageRequest,
  writer: TreeWriter,
  pass: PassOne,
  outer: AbortSignal,
): Promise<void> {
  const failing = new AbortController();
  const signal = AbortSignal.any([outer, failing.signal]);
  setMaxListeners(0, signal);
  // The state directory has a disk too.
  const failureOf = (error: unknown) => unpackFailure(error, `of ${request.image} in ${request.dir}`);
  const naming = (write: () => void): void => {
    try {
      write();
    } catch (error) {
      throw failureOf(error);
    }
  };
  const works = worksOf(request.layers, writer, naming);
  const written = new Deferred<void>();
  written.promise.catch(() => {});
  const all = [
    applyInOrder(request, works, { writer, naming }, signal).then(() => written.resolve()),
    ...[...works.values()].map(({ layer, sink, whole }) =>
      pass(layer, {
        sink,
        whole: async () => {
          whole.resolve();
          // What is written is copied from the stream.
          await written.promise;
        },
        signal,
      }),
    ),
  ];
  const fail = (error: unknown) => {
    failing.abort(error);
    written.reject(error);
    for (const { whole } of works.values()) whole.reject(error);
  };
  for (const each of all) each.catch(fail);
  await Promise.allSettled(all);
  outer.throwIfAborted();
  if (failing.signal.aborted) throw failureOf(failing.signal.reason);
}

/** By what they are and what they must unpack to. */
function worksOf(layers: readonly LayerToUnpack[], writer: TreeWriter, naming: Naming): Map<string, Work> {
  const works = new Map<string, Work>();
  for (const [stream, layer] of layers.entries()) {
    const key = keyOf(layer);
    if (works.has(key)) continue;
    const isRepeated = layers.filter((other) => keyOf(other) === key).length > 1;
    const whole = new Deferred<void>();
    whole.promise.catch(() => {});
    const sink = new QueuedSink({
      begin: (dataFd) => naming(() => writer.addStream(stream, dataFd)),
      written: (offset) => naming(() => writer.advance(stream, offset)),
    });
    works.set(key, { layer, stream, sink, whole, kept: isRepeated ? [] : undefined });
  }
  return works;
}

async function applyInOrder(
  { image, layers }: UnpackImageRequest,
  works: ReadonlyMap<string, Work>,
  { writer, naming }: { readonly writer: TreeWriter; readonly naming: Naming },
  signal: AbortSignal,
): Promise<void> {
  const applier = new LayerApplier({
    submit: (ops) => naming(() => writer.submit(ops)),
    form: 'plain',
    layerName: image,
    overlayMarks: 'kept',
  });
  const done = new Set<Work>();
  for (const layer of layers) {
    const work = works.get(keyOf(layer)) as Work;
    applier.beginLayer(work.stream, `layer ${layer.descriptor.digest}`);
    if (done.has(work)) {
      for (const entries of work.kept ?? []) applier.take(entries);
      continue;
    }
    done.add(work);
    work.sink.open((entries) => {
      work.kept?.push(entries);
      applier.take(entries);
    });
    await work.whole.promise;
  }
  applier.finish();
  await writer.finish({ signal });
}

function keyOf({ descriptor, diffId }: LayerToUnpack): string {
  return `${descriptor.digest} ${diffId}`;
}

function warnOfSkipped({ onWarning }: UnpackImageRequest, writer: TreeWriter): void {
  const { devices, xattrs } = writer.skipped;
  if (devices > 0) onWarning?.(`left out, because making them needs root: ${counted(devices, 'device')}`);
  if (xattrs > 0) onWarning?.(`left out, because setting them needs root: ${counted(xattrs, 'extended attribute')}`);
}

function counted(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? '' : 's'}`;
}
