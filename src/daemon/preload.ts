import { loadUndici } from '../registry/client/undici-parts.ts';

/** Loads what the first image that comes needs, so that nobody waits for it then. Never rejects: whoever needs one that fails is told. */
export async function preload(): Promise<void> {
  const loading = [
    () => import('./connect-registry.ts'),
    loadUndici,
    () => import('../snapshotter/pull/pull-to-containerd.ts'),
    () => import('../layer/prepare-by-index.ts'),
    () => import('../layer/prepare-peel.ts'),
    () => import('../layer/prepare-whole.ts'),
  ];
  // Between two of them others have their turn.
  for (const load of loading) await load().catch(() => {});
}
