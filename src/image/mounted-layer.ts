export type LayerTransport = 'kernel' | 'native';

export interface MountedLayer {
  readonly transport: LayerTransport;
  /** The kernel reads the layer's file by itself: the mount lives without this process. */
  readonly direct: boolean;
  /** Ends the serving of a layer that was unmounted. Idempotent. */
  retire(): Promise<void>;
}
