import type { Digest } from '../oci/digest.ts';
import { parseManifest } from '../oci/manifest.ts';
import type { State } from '../state/state.ts';
import type { ContentStore } from './content-store.ts';
import type { ContentFetcher } from './content.ts';

export interface ForgetIndexDeps {
  readonly state: Pick<State, 'indexes' | 'ztocs'>;
  readonly content: ContentFetcher;
  readonly store: ContentStore;
}

/** Forgets an index on this node with what it has for the layers, as far as no other index has it too. Errors: those of the disk. */
export async function forgetIndex(deps: ForgetIndexDeps, index: Digest): Promise<void> {
  const { state, store } = deps;
  const blobs = await layersOf(deps, index);
  const kept = new Set<Digest>();
  for (const { digest } of state.indexes.list()) {
    if (digest === undefined || digest === index) continue;
    for (const blob of (await layersOf(deps, digest)) ?? []) kept.add(blob);
  }
  state.indexes.deleteByDigest(index);
  for (const blob of blobs ?? []) {
    if (kept.has(blob)) continue;
    state.ztocs.deleteByZtoc(blob);
    await store.delete(blob);
  }
  if (blobs !== undefined) await store.delete(index);
}

/** Undefined when the index itself is not here. */
async function layersOf({ content }: ForgetIndexDeps, index: Digest): Promise<readonly Digest[] | undefined> {
  const manifest = await content.local(index);
  return manifest === undefined ? undefined : parseManifest(manifest.bytes).layers.map(({ digest }) => digest);
}
