// What containerd and other clients say of the image that a snapshot is to be made for: untrusted words, checked here once.
import { isDigest } from '../oci/digest.ts';
import type { Digest } from '../oci/digest.ts';
import { parseReference } from '../oci/reference.ts';
import type { RegistryReference } from '../oci/reference.ts';
import type { Labels } from './layer-provider.ts';

/** Names of labels, in the order in which they are looked for. */
export const imageLabels = {
  /** containerd's own, from its CRI, its transfer service and clients that use its handlers; then those of the older stargz clients. */
  reference: ['containerd.io/snapshot/cri.image-ref', 'containerd.io/snapshot/remote/stargz.reference'],
  manifest: ['containerd.io/snapshot/cri.manifest-digest'],
  layer: ['containerd.io/snapshot/cri.layer-digest', 'containerd.io/snapshot/remote/stargz.digest'],
  /** An index that whoever pulls chose himself. */
  index: ['containerd.io/snapshot/remote/soci.index.digest'],
} as const;

export interface LabelledImage {
  readonly reference: RegistryReference;
  /** Of one platform's image; undefined: what the reference says for this host. */
  readonly manifest: Digest | undefined;
  readonly layer: Digest | undefined;
  readonly index: Digest | undefined;
}

/** containerd's limit for a label's name and value together. */
const maxLength = 4096;

/** A sentence that names the label when one of them is missing or garbage. */
export function readImageLabels(labels: Labels): LabelledImage | { readonly refusal: string } {
  const found = find(labels, imageLabels.reference);
  if (found === undefined) {
    return {
      refusal: `no label names the image: ${imageLabels.reference[0]} is missing (containerd sends it where snapshot annotations are on)`,
    };
  }
  const reference = readReference(found);
  if (typeof reference === 'string') return { refusal: reference };
  const digests: { manifest?: Digest; layer?: Digest; index?: Digest } = {};
  for (const what of ['manifest', 'layer', 'index'] as const) {
    const label = find(labels, imageLabels[what]);
    if (label === undefined) continue;
    if (!isDigest(label.value)) return { refusal: `label ${label.name} is not a digest: ${shown(label.value)}` };
    digests[what] = label.value;
  }
  const { manifest, layer, index } = digests;
  return { reference, manifest, layer, index };
}

interface Found {
  readonly name: string;
  readonly value: string;
}

function find(labels: Labels, names: readonly string[]): Found | undefined {
  for (const name of names) {
    const value = Object.hasOwn(labels, name) ? labels[name] : undefined;
    if (value !== undefined && value !== '') return { name, value };
  }
  return undefined;
}

function readReference({ name, value }: Found): RegistryReference | string {
  if (value.length > maxLength) return `label ${name} has more than ${maxLength} characters`;
  try {
    const reference = parseReference(value);
    // A path on this host is nothing that somebody who may pull has a say in.
    if (reference.kind !== 'registry') return `label ${name} names no image of a registry: ${shown(value)}`;
    return reference;
  } catch {
    return `label ${name} is not an image reference: ${shown(value)}`;
  }
}

function shown(value: string): string {
  return JSON.stringify(value.slice(0, 100));
}
