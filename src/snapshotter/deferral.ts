// Why a layer is left to containerd.
import { errorCode, errorMessage } from '../layer/errors.ts';
import { RegistryError } from '../registry/errors.ts';
import type { DeferralCode } from './layer-provider.ts';

export interface Deferral {
  readonly kind: 'deferred';
  readonly code: DeferralCode;
  readonly reason: string;
}

const maxReason = 500;

/** The reason becomes one line of bounded length. */
export function defer(code: DeferralCode, reason: string): Deferral {
  const line = reason.replace(/\s+/g, ' ').trim();
  return { kind: 'deferred', code, reason: line.length > maxReason ? `${line.slice(0, maxReason)}…` : line };
}

const codes: Readonly<Record<string, DeferralCode>> = {
  ERR_IMAGE_LAYER_TREE: 'layer',
  ERR_IMAGE_INDEX: 'no_index',
  ERR_IMAGE_UNKNOWN: 'registry',
  ERR_IMAGE_DENIED: 'registry',
  ERR_IMAGE_UNREACHABLE: 'registry',
  ERR_LAYER_FETCH: 'registry',
  ERR_LAYER_SHORT: 'registry',
  ERR_LAYER_DISK: 'disk',
  ERR_UNPACK_BELOW: 'layer',
  ERR_UNPACK_FETCH: 'registry',
  ERR_UNPACK_SPACE: 'disk',
  ERR_UNPACK_DISK: 'disk',
  ENOSPC: 'disk',
  EDQUOT: 'disk',
  EROFS: 'disk',
  EIO: 'disk',
  SQLITE_FULL: 'disk',
  SQLITE_IOERR: 'disk',
};

export function deferralOf(error: unknown): Deferral {
  return defer(deferralCode(error), errorMessage(error));
}

/** What lies deepest says what really went wrong, where it is one of the kinds that people act upon. */
export function deferralCode(error: unknown): DeferralCode {
  const code = error instanceof RegistryError ? 'registry' : codes[errorCode(error) ?? ''];
  if (code !== undefined && code !== 'registry') return code;
  const cause = error instanceof Error && error.cause instanceof Error ? deferralCode(error.cause) : 'error';
  return cause === 'disk' ? 'disk' : (code ?? cause);
}

/** Whether it says only that the layer cannot be served lazily: it can be unpacked all the same. */
export function isUnpackable({ code }: Deferral): boolean {
  return code === 'no_index' || code === 'formats';
}

/** What cannot be had by itself in any form. */
const neverAlone = ['ERR_TREE_LOWER_LINK', 'ERR_TREE_DEVICE'];

/** Whether a layer makes no tree of its own, and yet may be unpacked by itself. */
export function isTreeless(error: unknown): boolean {
  if (!(error instanceof Error) || errorCode(error) !== 'ERR_IMAGE_LAYER_TREE') return false;
  return !neverAlone.includes(errorCode(error.cause) ?? '');
}
