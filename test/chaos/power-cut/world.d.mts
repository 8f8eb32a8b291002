import type { LayerCacheOptions } from '../../../src/native/layer-cache.ts';

export const spans: number;
export const spanSize: number;
export function bytesOf(name: string): Buffer;
export function cacheOptions(root: string, runDir: string, name: string): LayerCacheOptions;
export function random(seed: number): (below: number) => number;
