import type { Descriptor } from './descriptor.ts';
import { isDigest } from './digest.ts';
import { OciError } from './errors.ts';
import {
  asObject,
  optionalObject,
  optionalString,
  optionalStringMap,
  optionalStrings,
  requiredString,
} from './json.ts';
import type { JsonObject } from './json.ts';
import type { Platform } from './platform.ts';

/** Parses one descriptor (OCI image spec, descriptor.md); fields this version does not know are dropped. Errors: ERR_OCI_MANIFEST naming `what`. */
export function parseDescriptor(value: unknown, what: string): Descriptor {
  const json = asObject(value, what);
  const digest = requiredString(json, 'digest', what);
  if (!isDigest(digest))
    throw new OciError('ERR_OCI_MANIFEST', `${what} digest is not valid: ${JSON.stringify(digest.slice(0, 200))}`);
  const size = json['size'];
  if (typeof size !== 'number' || !Number.isSafeInteger(size) || size < 0) {
    throw new OciError(
      'ERR_OCI_MANIFEST',
      `${what} size is not a number of bytes: ${JSON.stringify(size)?.slice(0, 200)}`,
    );
  }
  const urls = optionalStrings(json, 'urls', what);
  const annotations = optionalStringMap(json, 'annotations', what);
  const data = optionalString(json, 'data', what);
  const platform = optionalObject(json, 'platform', what);
  const artifactType = optionalString(json, 'artifactType', what);
  return {
    mediaType: requiredString(json, 'mediaType', what),
    digest,
    size,
    ...(urls === undefined ? {} : { urls }),
    ...(annotations === undefined ? {} : { annotations }),
    ...(data === undefined ? {} : { data }),
    ...(platform === undefined ? {} : { platform: parsePlatformJson(platform, `${what} platform`) }),
    ...(artifactType === undefined ? {} : { artifactType }),
  };
}

function parsePlatformJson(json: JsonObject, what: string): Platform {
  const variant = optionalString(json, 'variant', what);
  const osVersion = optionalString(json, 'os.version', what);
  const osFeatures = optionalStrings(json, 'os.features', what);
  return {
    architecture: optionalString(json, 'architecture', what) ?? '',
    os: optionalString(json, 'os', what) ?? '',
    ...(variant === undefined ? {} : { variant }),
    ...(osVersion === undefined ? {} : { 'os.version': osVersion }),
    ...(osFeatures === undefined ? {} : { 'os.features': osFeatures }),
  };
}
