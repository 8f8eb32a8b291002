// Profiles from a registry: who wrote them is unknown, so everything in them is checked before a span is asked for.
import { type Digest, isDigest } from '../oci/digest.ts';
import { asObject, type JsonObject, parseJsonObject } from '../oci/json.ts';
import { createdAnnotation } from './created-annotation.ts';
import { formatError, IndexError, limitError } from './errors.ts';
import { defaultIndexLimits } from './limits.ts';
import type { ProfileLayer, ProfileManifest } from './peel-profile.ts';
import {
  maxProfileBytes,
  maxProfileLayers,
  maxProfileSpans,
  peelProfileSpansType,
  peelProfileType,
  profileVersion,
} from './profile-names.ts';
import { readIndexManifest } from './read-index-manifest.ts';

const formats: readonly ProfileLayer['format'][] = ['peel', 'soci-v1', 'soci-v2'];

/**
 * Reads the manifest of a profile. That its bytes have the digest they were asked for by is the caller's check.
 * Errors: ERR_INDEX_FORMAT, ERR_INDEX_LIMIT, ERR_INDEX_UNSUPPORTED when it is the manifest of something else.
 */
export function readProfileManifest(bytes: Uint8Array): ProfileManifest {
  const manifest = readIndexManifest(bytes, 'profile', defaultIndexLimits);
  const { artifactType, config, subject, layers, annotations } = manifest;
  const wrong = [artifactType ?? peelProfileType, config.mediaType].find((type) => type !== peelProfileType);
  if (wrong !== undefined)
    throw new IndexError('ERR_INDEX_UNSUPPORTED', `not a profile: its type is ${JSON.stringify(wrong.slice(0, 100))}`);
  if (subject === undefined) throw formatError('profile has no subject');
  const [spans, another] = layers.filter(({ mediaType }) => mediaType === peelProfileSpansType);
  if (spans === undefined || another !== undefined) throw formatError('profile has not exactly one list of spans');
  if (spans.size > maxProfileBytes) throw limitError('size of the spans of a profile', spans.size, maxProfileBytes);
  return { subject, spans, created: annotations[createdAnnotation] };
}

/**
 * Reads the spans of a profile, one per layer and index. Errors: ERR_INDEX_FORMAT, ERR_INDEX_LIMIT, ERR_INDEX_VERSION when a newer release
 * wrote them.
 */
export function readProfileSpans(bytes: Uint8Array): ProfileLayer[] {
  if (bytes.length > maxProfileBytes) throw limitError('size of the spans of a profile', bytes.length, maxProfileBytes);
  const json = parse(bytes);
  const version = json['version'];
  if (!isCount(version)) throw formatError('profile has no version');
  if (version !== profileVersion)
    throw new IndexError('ERR_INDEX_VERSION', `profile has version ${version}, this release reads ${profileVersion}`);
  const layers = json['layers'];
  if (!Array.isArray(layers)) throw formatError('profile has no list of layers');
  if (layers.length > maxProfileLayers) throw limitError('layers of a profile', layers.length, maxProfileLayers);
  const read = layers.map((layer: unknown, i) => readLayer(layer, `profile layers[${i}]`));
  if (new Set(read.map(({ layer, index }) => `${layer} ${index}`)).size < read.length)
    throw formatError('profile has a layer and index twice');
  return read;
}

function parse(bytes: Uint8Array): JsonObject {
  try {
    return parseJsonObject(bytes, 'profile');
  } catch (cause) {
    throw new IndexError('ERR_INDEX_FORMAT', cause instanceof Error ? cause.message : String(cause), { cause });
  }
}

function readLayer(value: unknown, what: string): ProfileLayer {
  let json: JsonObject;
  try {
    json = asObject(value, what);
  } catch (cause) {
    throw new IndexError('ERR_INDEX_FORMAT', `${what} is not an object`, { cause });
  }
  const { spanCount, runs } = json;
  const format = formats.find((each) => each === json['indexFormat']);
  if (format === undefined) throw formatError(`${what} has no known index format`);
  if (!isCount(spanCount) || spanCount > defaultIndexLimits.spans) throw formatError(`${what} has no span count`);
  if (!isCount(runs) || runs < 1 || runs > 1e6) throw formatError(`${what} has no number of runs`);
  return {
    layer: digestOf(json, 'layer', what),
    index: digestOf(json, 'index', what),
    format,
    spanCount,
    runs,
    spans: readRanges(json['spans'], spanCount, what),
  };
}

function digestOf(json: JsonObject, member: string, what: string): Digest {
  const value = json[member];
  if (typeof value !== 'string' || !isDigest(value)) throw formatError(`${what} has no valid ${member} digest`);
  return value;
}

function readRanges(value: unknown, spanCount: number, what: string): number[] {
  if (!Array.isArray(value)) throw formatError(`${what} has no list of spans`);
  const spans = new Set<number>();
  for (const range of value as unknown[]) {
    const [start, end, more] = Array.isArray(range) ? (range as unknown[]) : [];
    if (!isCount(start) || !isCount(end) || more !== undefined || start >= end || end > spanCount)
      throw formatError(`${what} has a range that is none of its ${spanCount} spans`);
    const before = spans.size;
    if (before + end - start > maxProfileSpans)
      throw limitError(`spans of ${what}`, before + end - start, maxProfileSpans);
    for (let span = start; span < end; span += 1) spans.add(span);
    if (spans.size !== before + end - start) throw formatError(`${what} has a span twice`);
  }
  return [...spans];
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}
