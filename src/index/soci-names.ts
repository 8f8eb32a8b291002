// Media types and annotations of SOCI index manifests, versions 1 and 2.

export type SociVersion = 'v1' | 'v2';

/** The media type of the config blob says which version an index is; it is also its artifact type for referrers. */
export const sociIndexTypes: Readonly<Record<SociVersion, string>> = {
  v1: 'application/vnd.amazon.soci.index.v1+json',
  v2: 'application/vnd.amazon.soci.index.v2+json',
};

export const ztocMediaType = 'application/octet-stream';
export const prefetchMediaType = 'application/vnd.amazon.soci.prefetch.v1+json';

export const sociAnnotations = {
  buildTool: 'com.amazon.soci.build-tool-identifier',
  layerDigest: 'com.amazon.soci.image-layer-digest',
  layerMediaType: 'com.amazon.soci.image-layer-mediaType',
  spanSize: 'com.amazon.soci.span-size',
  /** On an image manifest: the digest of its version 2 index. */
  indexDigest: 'com.amazon.soci.index-digest',
  /** On a version 2 index descriptor: the image manifest it belongs to. */
  imageManifestDigest: 'com.amazon.soci.image-manifest-digest',
} as const;
