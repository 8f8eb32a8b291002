// Somebody who makes layers readable, for tests of who asks for them: every layer is a plain directory `<root>/l/<slot in base 36>`.
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import Sqlite from 'better-sqlite3';
import { digestFromSha256 } from '../../src/oci/digest.ts';
import { directoryNodes } from '../../src/snapshotter/directory-nodes.ts';
import type { LowerNode } from '../../src/tree/lower-node.ts';
import type { ByteString } from '../../src/util/byte-string.ts';
import type {
  ContainerStart,
  DiskUsage,
  LayerProvider,
  LayerWish,
  ProvideOutcome,
  RootAttributes,
} from '../../src/snapshotter/layer-provider.ts';

export type Answer = (wish: LayerWish) => ProvideOutcome | Promise<ProvideOutcome>;

export const noIndex: Answer = () => ({
  kind: 'deferred',
  code: 'no_index',
  reason: 'registry.test/app has no index',
  image: 'registry.test/app:1',
  layer: undefined,
});

export class DirectoryLayers implements LayerProvider {
  readonly #root: string;
  readonly #db: Sqlite.Database;
  readonly #answers = new Map<string, Answer>();
  readonly wishes: LayerWish[] = [];
  readonly freed: number[] = [];
  readonly starts: ContainerStart[] = [];
  /** Why slots are not mounted. */
  readonly refusals = new Map<number, string>();
  readonly roots = new Map<number, RootAttributes>();
  collected = 0;

  /** The state in `root` is opened already. */
  constructor(root: string) {
    this.#root = root;
    this.#db = new Sqlite(path.join(root, 'peel.db'));
    this.#db.pragma('synchronous = OFF');
  }

  /** A new layer; its directory is empty. */
  offer(chainId: string): { slot: number; directory: string } {
    const slot = this.makeSlot();
    this.answer(chainId, () => ({
      kind: 'served',
      slot,
      image: 'registry.test/app:1',
      layer: digestFromSha256(Buffer.alloc(32, slot)),
    }));
    return { slot, directory: this.directory(slot) };
  }

  makeSlot(): number {
    const insert = this.#db.prepare(`INSERT INTO slots (tree, layer, reason, created_at) VALUES (?, 'l', 'r', 0)`);
    const slot = Number(insert.run(crypto.randomUUID()).lastInsertRowid);
    mkdirSync(this.directory(slot), { recursive: true });
    return slot;
  }

  answer(chainId: string, answer: Answer): void {
    this.#answers.set(chainId, answer);
  }

  async provide(wish: LayerWish): Promise<ProvideOutcome> {
    this.wishes.push(wish);
    return await (this.#answers.get(wish.chainId) ?? noIndex)(wish);
  }

  directory(slot: number): string {
    return path.join(this.#root, 'l', slot.toString(36));
  }

  refusal(slot: number): string | undefined {
    return this.refusals.get(slot);
  }

  rootOf(slot: number): Promise<RootAttributes | undefined> {
    return Promise.resolve(this.roots.get(slot));
  }

  async nodesAt(
    slot: number,
    _below: LayerWish['below'],
    paths: readonly ByteString[],
    { signal }: { readonly signal: AbortSignal },
  ): Promise<readonly (LowerNode | undefined)[]> {
    return await directoryNodes(this.directory(slot), paths, { userXattr: false, signal });
  }

  usage(slot: number): Promise<DiskUsage> {
    return Promise.resolve({ size: slot * 1000, inodes: slot });
  }

  starting(start: ContainerStart): void {
    this.starts.push(start);
  }

  released(slots: readonly number[]): void {
    this.freed.push(...slots);
  }

  collect(): Promise<void> {
    this.collected += 1;
    return Promise.resolve();
  }

  close(): void {
    this.#db.close();
  }
}
