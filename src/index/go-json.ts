// JSON as Go's encoding/json writes the OCI structs. A SOCI snapshotter decodes an index, encodes it again and stores that
// under the original digest, so an index that differs from this in one byte is unusable for it.
import type { Descriptor } from '../oci/descriptor.ts';
import type { Platform } from '../oci/platform.ts';

type JsonValue = string | number | readonly JsonValue[] | JsonObject;
/** A member that is undefined is left out. */
interface JsonObject {
  readonly [member: string]: JsonValue | undefined;
}

/** Members in the given order, no white space, no final newline, `<`, `>`, `&`, U+2028 and U+2029 escaped. */
export function encodeGoJson(value: JsonValue): Uint8Array {
  const text = JSON.stringify(value).replace(
    /[<>&\u2028\u2029]/g,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
  return Buffer.from(text, 'utf8');
}

/** Member order of OCI image-spec's Descriptor; optional members are left out when empty. */
export function goDescriptor(descriptor: Descriptor): JsonObject {
  return {
    mediaType: descriptor.mediaType,
    digest: descriptor.digest,
    size: descriptor.size,
    urls: nonEmptyList(descriptor.urls),
    annotations: goStringMap(descriptor.annotations),
    data: nonEmpty(descriptor.data),
    platform: descriptor.platform && goPlatform(descriptor.platform),
    artifactType: nonEmpty(descriptor.artifactType),
  };
}

/** Keys sorted by byte; undefined when there are none. */
export function goStringMap(map: Readonly<Record<string, string>> | undefined): JsonObject | undefined {
  const entries = Object.entries(map ?? {});
  if (entries.length === 0) return undefined;
  return Object.fromEntries(entries.sort(([a], [b]) => Buffer.compare(Buffer.from(a), Buffer.from(b))));
}

function goPlatform(platform: Platform): JsonObject {
  return {
    architecture: platform.architecture,
    os: platform.os,
    'os.version': nonEmpty(platform['os.version']),
    'os.features': nonEmptyList(platform['os.features']),
    variant: nonEmpty(platform.variant),
  };
}

function nonEmpty(text: string | undefined): string | undefined {
  return text === '' ? undefined : text;
}

function nonEmptyList(list: readonly string[] | undefined): readonly string[] | undefined {
  return list === undefined || list.length === 0 ? undefined : list;
}
