// One layer of the cache: its index, the files of its spans, every span that is present, and the whole where it is complete.
import { openNodeIndex } from '../index/node-index.ts';
import type { NodeIndex } from '../index/node-index.ts';
import { tryBuildLock } from '../layer/build-lock.ts';
import { errorCode, errorMessage } from '../layer/errors.ts';
import { fileIdentity } from '../layer/file-identity.ts';
import type { LayerPaths } from '../layer/layer-paths.ts';
import { LayerCache } from '../native/layer-cache.ts';
import type { Digest } from '../oci/digest.ts';
import type { LayerRow } from '../state/layers.ts';
import { allNamesIn } from '../util/all-names-in.ts';
import { isKept } from './check.ts';
import type { CheckOptions, FsckDeps } from './check.ts';
import { checkSpans } from './check-spans.ts';
import { checkWindows } from './check-windows.ts';

/** `whole`: the stream of a complete layer is also compared with the diffID, which reads it twice. */
export interface LayerCheckOptions extends CheckOptions {
  readonly whole: boolean;
}

export class LayerCheck {
  readonly #d: FsckDeps;
  readonly #o: LayerCheckOptions;
  readonly #layer: Digest;
  readonly #paths: LayerPaths;

  private constructor(deps: FsckDeps, layer: Digest, options: LayerCheckOptions) {
    this.#d = deps;
    this.#o = options;
    this.#layer = layer;
    this.#paths = deps.store.paths(layer);
  }

  /** Tells `found` what is wrong with it. Errors: errno codes of a disk that fails; those of the database; the signal's reason. */
  static async run(deps: FsckDeps, layer: Digest, options: LayerCheckOptions): Promise<void> {
    await new LayerCheck(deps, layer, options).#run();
  }

  async #run(): Promise<void> {
    const before = await fileIdentity(this.#paths.index);
    if (before === undefined) return await this.#checkLeftover();
    const index = await this.#openIndex();
    if (index === undefined) return;
    const row = this.#d.state.layers.get(this.#layer);
    try {
      if (await this.#isIndexRight(index, row)) await this.#checkFiles(index, row);
    } finally {
      await index.close();
    }
    // What was found just now is told already.
    if (row?.suspect !== undefined) await this.#forgetSuspect();
  }

  /** Files without an index count for nothing, unless somebody is making the layer at this moment. */
  async #checkLeftover(): Promise<void> {
    // Somebody may have been making it until now, and be done.
    const hasIndex = async () => (await fileIdentity(this.#paths.index)) !== undefined;
    if ((await tryBuildLock(this.#paths, hasIndex)) !== false) return;
    const names = ((await allNamesIn(this.#paths.dir)) ?? []).filter((name) => name !== 'lock');
    if (names.length === 0 && this.#d.state.layers.get(this.#layer) === undefined) return;
    await this.#orRemove('it has no index file, so that nobody can read it');
  }

  async #openIndex(): Promise<NodeIndex | undefined> {
    try {
      return await openNodeIndex(this.#paths.index);
    } catch (error) {
      const code = errorCode(error);
      if (code === 'ENOENT') return undefined;
      if (code === 'ERR_INDEX_VERSION') this.#tell(errorMessage(error), { left: 'upgrade peel' });
      else if (code?.startsWith('ERR_INDEX_') === true) await this.#orRemove(errorMessage(error));
      else throw error;
      return undefined;
    }
  }

  async #isIndexRight(index: NodeIndex, row: LayerRow | undefined): Promise<boolean> {
    const wrong = (await this.#indexDamage(index)) ?? this.#contradiction(index, row);
    if (wrong === undefined) return true;
    await this.#orRemove(wrong);
    return false;
  }

  async #indexDamage(index: NodeIndex): Promise<string | undefined> {
    try {
      await index.verify({ signal: this.#o.signal });
      return undefined;
    } catch (error) {
      this.#o.signal.throwIfAborted();
      if (errorCode(error)?.startsWith('ERR_INDEX_') === true) return errorMessage(error);
      throw error;
    }
  }

  #contradiction({ info }: NodeIndex, row: LayerRow | undefined): string | undefined {
    if (info.blobDigest !== undefined && info.blobDigest !== this.#layer)
      return `its index describes the blob ${info.blobDigest}`;
    if (row !== undefined && info.diffId !== undefined && info.diffId !== row.diffId)
      return `its index describes the stream ${info.diffId}, and its images say ${row.diffId}`;
    return undefined;
  }

  async #checkFiles(index: NodeIndex, row: LayerRow | undefined): Promise<void> {
    const { found, repair } = this.#o;
    const options = cacheOptions(this.#paths, index);
    const files = await LayerCache.inspect(options);
    if (files.present === 'EPROTONOSUPPORT')
      return this.#tell('its bitmap was written by a newer peel', { left: 'upgrade peel' });
    if (files.data !== undefined) return await this.#checkLostData(files.data);
    // Opening the cache takes care of these.
    if (files.dataSize !== files.expectedSize)
      this.#tell(`its data file has ${files.dataSize} bytes instead of ${files.expectedSize}`, {
        done: 'what is missing is fetched again when it is read',
      });
    if (files.present === 'EILSEQ') this.#tell('its bitmap is damaged', { done: 'written anew' });
    if (files.present === 'ESTALE')
      this.#tell('its bitmap is of another index or another data file', { done: 'what it stood for is fetched again' });
    if (!repair && files.present === 'ESTALE') return;
    const spans = await checkSpans(this.#d, { layer: this.#layer, paths: this.#paths, index, row, options }, this.#o);
    for (const { what, repaired, how } of spans) found({ place: 'layer', subject: this.#layer, what, repaired, how });
    const windows = await checkWindows(index, this.#paths, this.#o);
    if (windows > 0)
      this.#tell(`${windows} of its windows are damaged`, { done: 'they are fetched again when they are needed' });
  }

  async #checkLostData(code: string): Promise<void> {
    const what = code === 'ENOENT' ? 'its data file is gone' : `its data file cannot be read (${code})`;
    await this.#orRemove(what);
  }

  /** What cannot be mended goes where nobody needs it: it is fetched again with the next use. */
  async #orRemove(what: string): Promise<void> {
    if (!this.#o.repair) return this.#tell(what, {});
    if (!isKept(this.#d.state, this.#layer) && (await this.#d.store.remove(this.#layer)))
      return this.#tell(what, { done: 'removed; it is fetched again when it is needed' });
    this.#d.state.layers.markSuspect(this.#layer, what);
    this.#tell(what, { left: 'it is in use, and is made anew once its images are unmounted' });
  }

  async #forgetSuspect(): Promise<void> {
    const suspect = this.#d.state.layers.get(this.#layer)?.suspect;
    if (suspect === undefined) return;
    const what = `it cannot be trusted: ${suspect}`;
    if (!this.#o.repair) return this.#tell(what, {});
    if (!isKept(this.#d.state, this.#layer) && (await this.#d.store.remove(this.#layer)))
      this.#tell(what, { done: 'removed; it is fetched again when it is needed' });
    else this.#tell(what, { left: 'it is in use: unmount its images first' });
  }

  /** `done`: what a repair did; `left`: why none was possible. */
  #tell(what: string, { done, left }: { readonly done?: string; readonly left?: string }): void {
    const { repair, found } = this.#o;
    const how = left ?? (repair ? done : undefined);
    found({
      place: 'layer',
      subject: this.#layer,
      what,
      repaired: repair && done !== undefined && left === undefined,
      how,
    });
  }
}

function cacheOptions(paths: LayerPaths, { spans, fingerprint }: NodeIndex) {
  return {
    dir: paths.dir,
    livePath: paths.live,
    streamSize: spans.streamSize,
    // A cache has at least one span; that of an empty stream is empty.
    spanStarts: spans.count > 0 ? spans.streamStarts : new Float64Array(2),
    fingerprint,
  };
}
