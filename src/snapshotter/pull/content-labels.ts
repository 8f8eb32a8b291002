// What containerd's own pull writes on blobs: from where they came, and what its garbage collector must keep with them.
import type { ImageIndex, Manifest } from '../../oci/manifest.ts';
import { isManifestType } from '../../oci/media-type.ts';
import { isLabel } from '../containerd/content.ts';
import type { Labels } from '../layer-provider.ts';

export const uncompressedLabel = 'containerd.io/uncompressed';

/** All repositories of the host that the blob was pulled from. The host is without its port, as containerd writes it. */
export function sourceLabel(existing: Labels, host: string, repository: string): Labels {
  const key = `containerd.io/distribution.source.${host.replace(/:\d+$/, '').replace(/^\[(.*)\]$/, '$1')}`;
  const known = existing[key]?.split(',').filter((name) => name !== '') ?? [];
  const value = [...new Set([...known, repository])].toSorted().join(',');
  return isLabel(key, value) ? { [key]: value } : {};
}

/** All platforms are named: what was not pulled is nothing to keep. */
export function indexLabels({ manifests }: ImageIndex): Labels {
  const labels: Record<string, string> = {};
  const [own, other] = [manifests.filter(isManifest), manifests.filter((entry) => !isManifest(entry))];
  for (const [i, { digest }] of own.entries()) labels[`containerd.io/gc.ref.content.m.${i}`] = digest;
  for (const [i, { digest }] of other.entries()) labels[`containerd.io/gc.ref.content.${i}`] = digest;
  return labels;
}

export function manifestLabels({ config, layers }: Manifest): Labels {
  const labels: Record<string, string> = { 'containerd.io/gc.ref.content.config': config.digest };
  for (const [i, { digest }] of layers.entries()) labels[`containerd.io/gc.ref.content.l.${i}`] = digest;
  return labels;
}

/** On the config: the snapshot of the whole image stays as long as the image. */
export function snapshotLabel(snapshotter: string, topChainId: string): Labels {
  return { [`containerd.io/gc.ref.snapshot.${snapshotter}`]: topChainId };
}

function isManifest({ mediaType }: { readonly mediaType: string }): boolean {
  return isManifestType(mediaType);
}
