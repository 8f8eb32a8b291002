import type { LazyLayers } from './lazy-layers.ts';
import type { LayerLease } from './open-layers.ts';

/** `lease`, whose layer comes from now on until it is released, whether or not somebody mounts it. */
export function filledLease(lazy: Pick<LazyLayers, 'attach'>, lease: LayerLease): LayerLease {
  const { layer } = lease;
  const attached = lazy.attach(layer, { files: undefined, readAhead: true, fill: true });
  const release = async () => {
    await attached.detach();
    await lease.release();
  };
  return { layer, release };
}
