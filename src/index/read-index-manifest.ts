import { type Manifest, parseManifest } from '../oci/manifest.ts';
import { IndexError, limitError } from './errors.ts';
import type { IndexLimits } from './limits.ts';

/** The OCI manifest of a seekable index within its limits. `what` names it in messages. Errors: ERR_INDEX_FORMAT, ERR_INDEX_LIMIT. */
export function readIndexManifest(bytes: Uint8Array, what: string, limits: IndexLimits): Manifest {
  if (bytes.length > limits.manifestBytes) throw limitError(`size of ${what}`, bytes.length, limits.manifestBytes);
  const manifest = parse(bytes, what);
  if (manifest.layers.length > limits.descriptors) {
    throw limitError(`number of ${what} layers`, manifest.layers.length, limits.descriptors);
  }
  return manifest;
}

function parse(bytes: Uint8Array, what: string): Manifest {
  try {
    return parseManifest(bytes);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new IndexError('ERR_INDEX_FORMAT', `${what}: ${reason}`, { cause: error });
  }
}
