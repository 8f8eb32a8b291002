// An allocation in the addon that finds no memory is tried again for some seconds before it fails; here is whether that happened of late.
import { addon } from './addon.ts';

/** What native/src/binding/sys.cpp exports. */
interface Native {
  sysMemoryShortage(): number;
  sysNoteMemoryShortage(): void;
}

const native = (): Native => addon() as Native;

/** ms since somebody in this process got no memory when it asked for it; undefined: that never happened. */
export function memoryShortageMs(): number | undefined {
  const ms = native().sysMemoryShortage();
  return ms < 0 ? undefined : ms;
}

/** Memory was refused elsewhere: by the system, or by JavaScript's own heap. What was freed and is still kept goes back to the system. */
export function noteMemoryShortage(): void {
  native().sysNoteMemoryShortage();
}
