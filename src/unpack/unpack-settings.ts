/** How layers are unpacked: sizes in bytes, times in ms. As config/schema.ts explains its `unpack` table. */
export interface UnpackSettings {
  readonly chunkSize: number;
  readonly keepCompressed: boolean;
  readonly fillCache: boolean;
  readonly maxLayerSize: number;
  readonly maxRatio: number;
  readonly reserve: number;
  readonly expiryMs: number;
  /** Programs in place of the built-in decoders: absolute path and arguments. */
  readonly decompressors: {
    readonly gzip?: readonly string[] | undefined;
    readonly zstd?: readonly string[] | undefined;
  };
}
