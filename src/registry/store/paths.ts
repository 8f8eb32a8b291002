// Where the store on disk keeps things. To other tools it is an OCI image layout (image spec, image-layout.md): `oci-layout`, `index.json`, `blobs/`.
// What it goes by itself is under `repositories/`. A component of a repository's name never begins with `_`, so these names are free.
//
//   oci-layout, index.json                                     every tag as `<name>:<tag>`; made from `repositories/`
//   blobs/<alg>/<hex>                                          every blob and manifest once; repositories hold hard links to it
//   repositories/<name>/_blobs/<alg>/<hex>                     hard link: this repository has the blob
//   repositories/<name>/_manifests/<alg>/<hex>[.type]          hard link to a manifest, and its media type
//   repositories/<name>/_tags/<tag>                            digest of a manifest
//   repositories/<name>/_referrers/<alg>/<hex>/<alg>-<hex>     descriptor of a manifest whose subject is the first digest
//   repositories/<name>/_uploads/<id>                          the bytes of an upload under way
//   .lock                                                      flock: exclusive for whoever changes index.json
//   .locks/<xx>, .locks/<xx>.gate                              flock of a repository: shared to change it, exclusive to collect garbage
import path from 'node:path';
import { digestAlgorithm, digestHex } from '../../oci/digest.ts';
import type { Digest } from '../../oci/digest.ts';
import { checkDigest, checkRepository, checkTag } from '../names.ts';

export class StorePaths {
  readonly root: string;

  constructor(root: string) {
    this.root = path.resolve(root);
  }

  get repositories(): string {
    return path.join(this.root, 'repositories');
  }

  get blobs(): string {
    return path.join(this.root, 'blobs');
  }

  pool(digest: Digest): string {
    return path.join(this.blobs, ...partsOf(digest));
  }

  lock(name: string): string {
    return path.join(this.root, '.locks', name);
  }

  repository(name: string): string {
    return path.join(this.repositories, checkRepository(name));
  }

  ownBlobs(name: string): string {
    return path.join(this.repository(name), '_blobs');
  }

  blob(name: string, digest: Digest): string {
    return path.join(this.ownBlobs(name), ...partsOf(digest));
  }

  manifests(name: string): string {
    return path.join(this.repository(name), '_manifests');
  }

  manifest(name: string, digest: Digest): string {
    return path.join(this.manifests(name), ...partsOf(digest));
  }

  manifestType(name: string, digest: Digest): string {
    return `${this.manifest(name, digest)}.type`;
  }

  tags(name: string): string {
    return path.join(this.repository(name), '_tags');
  }

  tag(name: string, tag: string): string {
    // A tag cannot begin with a dot, so it is never `..` nor a temporary file.
    return path.join(this.tags(name), checkTag(tag));
  }

  allReferrers(name: string): string {
    return path.join(this.repository(name), '_referrers');
  }

  referrers(name: string, subject: Digest): string {
    return path.join(this.allReferrers(name), ...partsOf(subject));
  }

  referrer(name: string, subject: Digest, digest: Digest): string {
    return path.join(this.referrers(name, subject), partsOf(digest).join('-'));
  }

  uploads(name: string): string {
    return path.join(this.repository(name), '_uploads');
  }
}

function partsOf(digest: Digest): [string, string] {
  checkDigest(digest);
  return [digestAlgorithm(digest), digestHex(digest)];
}
