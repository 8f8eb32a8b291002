// The two ends of `peel copy`: what SRC names, and where DST takes it.
import type { Origins } from '../daemon/origins.ts';
import type { Origin } from '../image/origin.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import type { Digest } from '../oci/digest.ts';
import { formatReference, isTag, parseReference } from '../oci/reference.ts';
import type { Reference } from '../oci/reference.ts';
import type { CopyTarget } from '../registry/copy.ts';
import type { CopySource } from '../registry/copy/copy-plan.ts';
import type { CallOptions } from '../registry/interface.ts';
import { LayoutArchive } from '../registry/layout-archive.ts';
import { UsageError } from './errors.ts';
import { usage } from './usage.ts';

export interface CopyEnds {
  readonly source: Reference;
  /** Its tag is the one that was typed. */
  readonly target: Reference;
}

/** Errors: UsageError. */
export function parseEnds(source: string, target: string, options: { readonly replace: boolean }): CopyEnds {
  const ends = { source: usage(() => parseReference(source)), target: usage(() => parseReference(target)) };
  if (ends.target.digest !== undefined) throw new UsageError(`${target}: a copy keeps its digest; give only a tag`);
  if (options.replace && ends.target.kind !== 'archive') throw new UsageError('--replace is for oci-archive:FILE');
  const isDefault = ends.target.kind === 'registry' && !target.endsWith(`:${ends.target.tag}`);
  return isDefault ? { ...ends, target: { ...ends.target, tag: undefined } } : ends;
}

/** `tag`: what the image is called there, when it has one name. Errors: RegistryError. */
export async function openSource(
  origins: Origins,
  reference: Reference,
  options: CallOptions,
): Promise<{ readonly from: CopySource; readonly tag: string | undefined }> {
  const { registry, repository, resolveDefault } = await origins.open(reference);
  const named = (name: string) => ({ registry, repository, reference: name });
  const { tag, digest } = reference;
  if (digest !== undefined) return { from: named(digest), tag };
  if (tag !== undefined) return { from: named(tag), tag };
  const image = (await resolveDefault?.()) as Descriptor;
  return { from: named(image.digest), tag: await onlyTagOf({ registry, repository }, image.digest, options) };
}

export interface OpenTarget {
  readonly to: CopyTarget;
  /** In full. */
  readonly name: string;
  /** Makes the copy visible where it is not yet. */
  readonly finish: () => Promise<void>;
  /** Takes back what nobody can see yet. Nothing after `finish`. */
  readonly giveUp: () => Promise<void>;
}

/** `tag`: of the source, for a target that was named without one. Errors: RegistryError; DENIED for a file that is not to be replaced. */
export async function openTarget(
  origins: Origins,
  typed: Reference,
  tag: string | undefined,
  options: { readonly replace: boolean },
): Promise<OpenTarget> {
  const reference = { ...typed, tag: typed.tag ?? tag };
  const name = formatReference(reference);
  if (reference.kind !== 'archive') {
    const { registry, repository } = await origins.open(reference);
    const nothing = async () => {};
    return { to: { registry, repository, tag: reference.tag }, name, finish: nothing, giveUp: nothing };
  }
  const archive = await LayoutArchive.create(reference.file, options);
  return {
    to: { registry: archive, repository: '', tag: reference.tag },
    name,
    finish: () => archive.close(),
    giveUp: () => archive.discard(),
  };
}

async function onlyTagOf(
  { registry, repository }: Pick<Origin, 'registry' | 'repository'>,
  digest: Digest,
  options: CallOptions,
): Promise<string | undefined> {
  const tags = [];
  for await (const tag of registry.tags(repository, options)) {
    if (isTag(tag) && (await registry.resolveTag(repository, tag, options)).digest === digest) tags.push(tag);
  }
  return tags.length === 1 ? tags[0] : undefined;
}
