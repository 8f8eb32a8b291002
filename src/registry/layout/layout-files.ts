import type { Descriptor } from '../../oci/descriptor.ts';
import type { Digest } from '../../oci/digest.ts';
import type { BlobRange } from '../blob-range.ts';
import type { BlobReader, CallOptions } from '../interface.ts';
import type { IndexFile } from './layout-index.ts';

/** Where the files of an image layout lie: in a directory, or in a tar. */
export interface LayoutFiles {
  /** For messages: `oci image layout /dir`. */
  readonly name: string;
  readonly index: IndexFile;
  /** All of a blob, verified, or a range of it; undefined when there is no such blob. */
  open(digest: Digest, range: BlobRange | undefined, options: CallOptions): Promise<BlobReader | undefined>;
  size(digest: Digest): Promise<number | undefined>;
  putManifest(descriptor: Descriptor, bytes: Uint8Array, options: CallOptions): Promise<void>;
}
