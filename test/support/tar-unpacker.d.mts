import type { setXattr } from '../../src/native/sys.ts';
import type { SnapshotTable } from '../../src/state/snapshots.ts';
import type { TarReader } from '../../src/tar/reader.ts';
import type { Unpacker, UnpackLayerRequest } from '../../src/unpack/unpacker.ts';

export interface TarUnpackerParts {
  /** State directory. */
  readonly root: string;
  /** Claims are transactions of its database. */
  readonly table: Pick<SnapshotTable, 'durably'>;
  readonly TarReader: typeof TarReader;
  readonly setXattr: typeof setXattr;
}

export declare class TarUnpacker implements Unpacker {
  constructor(parts: TarUnpackerParts);
  /** All that were asked. */
  requests: UnpackLayerRequest[];
  /** Comes before a layer is unpacked. */
  hold: (request: UnpackLayerRequest, signal: AbortSignal) => Promise<void>;
  left(): string[];
  unpackLayer: Unpacker['unpackLayer'];
  unpackImage: Unpacker['unpackImage'];
  status: Unpacker['status'];
  setLimits: Unpacker['setLimits'];
  collect: Unpacker['collect'];
  idle: Unpacker['idle'];
  close: Unpacker['close'];
}
