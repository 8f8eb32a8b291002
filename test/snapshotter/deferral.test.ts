import { expect, it } from 'vitest';
import { LayerError } from '../../src/layer/errors.ts';
import { RegistryError } from '../../src/registry/errors.ts';
import { deferralOf } from '../../src/snapshotter/deferral.ts';
import { UnpackError } from '../../src/unpack/errors.ts';
import type { UnpackErrorCode } from '../../src/unpack/errors.ts';

const full = Object.assign(new Error('no space left on device'), { code: 'ENOSPC' });
const refused = new RegistryError('DENIED', 'pulls only');

it.each<[UnpackErrorCode, Error | undefined, string]>([
  ['ERR_UNPACK_BELOW', undefined, 'layer'],
  ['ERR_UNPACK_FETCH', undefined, 'registry'],
  ['ERR_UNPACK_FETCH', refused, 'registry'],
  // What people can act upon, however deep it is.
  ['ERR_UNPACK_FETCH', new LayerError('ERR_LAYER_FETCH', 'fetch', { cause: full }), 'disk'],
  ['ERR_UNPACK_SPACE', undefined, 'disk'],
  ['ERR_UNPACK_DISK', undefined, 'disk'],
  ['ERR_UNPACK_FOLDER', full, 'disk'],
  ['ERR_UNPACK_DIGEST', undefined, 'error'],
  ['ERR_UNPACK_DIFF_ID', undefined, 'error'],
  ['ERR_UNPACK_LAYER', undefined, 'error'],
  ['ERR_UNPACK_ENTRY', undefined, 'error'],
  ['ERR_UNPACK_LIMIT', undefined, 'error'],
  ['ERR_UNPACK_EXPIRED', undefined, 'error'],
  ['ERR_UNPACK_DECOMPRESSOR', undefined, 'error'],
  ['ERR_UNPACK_UNSUPPORTED', undefined, 'error'],
])('%s leaves the layer to containerd: %s, %s', (code, cause, deferral) => {
  const error = new UnpackError(code, 'layer sha256:…\n is not\tunpacked', { cause });
  expect(deferralOf(error)).toEqual({ kind: 'deferred', code: deferral, reason: 'layer sha256:… is not unpacked' });
});
