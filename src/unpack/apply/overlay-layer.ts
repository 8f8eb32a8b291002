import type { TarEntry } from '../../tar/entry.ts';
import type { Whiteout } from '../../tar/whiteout.ts';
import type { ByteString } from '../../util/byte-string.ts';
import { HiddenNames, type HiddenPlaces } from './hidden-names.ts';
import type { PlacedMarker } from './plain-layer.ts';
import type { Place, TreeWatcher, WrittenTree } from './written-tree.ts';

/** Makes the error for something that depends on the layers below. */
export type RefuseBelow = (entry: TarEntry, detail: string) => Error;

/**
 * A layer by itself, for an overlay above layers that are not known. Parents that it does not describe are taken for directories below,
 * which who stacks it must see to; so what describes or replaces one of them later comes too late, as it might be a link below.
 */
export class OverlayLayer implements TreeWatcher {
  readonly #refuseBelow: RefuseBelow;
  readonly #markers: PlacedMarker[] = [];
  readonly #elsewhere = new Set<string>();
  #entry: TarEntry | undefined;

  constructor(refuseBelow: RefuseBelow) {
    this.#refuseBelow = refuseBelow;
  }

  /** What the watcher hears of next is because of this entry. */
  at(entry: TarEntry): void {
    this.#entry = entry;
  }

  mark(entry: TarEntry, path: ByteString, marker: Whiteout): void {
    this.#markers.push({ entry, path, marker });
  }

  lost(place: Place): void {
    if (place.described === undefined)
      throw this.#refuse('takes the place of a directory that the layer does not describe');
  }

  described({ described, above }: Place): void {
    if (described === undefined && above !== undefined) throw this.#refuse('comes after something that is in it');
  }

  elsewhere(path: ByteString): void {
    this.#elsewhere.add(path);
  }

  /** All entries are in `tree`. */
  end(tree: WrittenTree): HiddenPlaces {
    const hidden = new HiddenNames({ tree, elsewhere: this.#elsewhere, refuse: (detail) => this.#refuse(detail) });
    for (const { entry, path, marker } of this.#markers) {
      this.#entry = entry;
      hidden.add(path, marker);
    }
    return hidden.place();
  }

  #refuse(detail: string): Error {
    return this.#refuseBelow(this.#entry as TarEntry, detail);
  }
}
