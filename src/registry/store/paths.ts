// Where the store on disk keeps things. A component of a repository's name never begins with `_`, so these names are free.
//
//   blobs/<alg>/<hex>                                          every blob once; repositories hold hard links to it
//   repositories/<name>/_blobs/<alg>/<hex>                     hard link: this repository has the blob
//   repositories/<name>/_manifests/<alg>/<hex>[.type]          a manifest's bytes, and its media type
//   repositories/<name>/_tags/<tag>                            digest of a manifest
//   repositories/<name>/_referrers/<alg>/<hex>/<alg>-<hex>     descriptor of a manifest whose subject is the first digest
//   repositories/<name>/_uploads/<id>                          the bytes of an upload under way
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

  pool(digest: Digest): string {
    return path.join(this.root, 'blobs', ...partsOf(digest));
  }

  repository(name: string): string {
    return path.join(this.repositories, checkRepository(name));
  }

  blob(name: string, digest: Digest): string {
    return path.join(this.repository(name), '_blobs', ...partsOf(digest));
  }

  manifest(name: string, digest: Digest): string {
    return path.join(this.repository(name), '_manifests', ...partsOf(digest));
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

  referrers(name: string, subject: Digest): string {
    return path.join(this.repository(name), '_referrers', ...partsOf(subject));
  }

  referrer(name: string, subject: Digest, digest: Digest): string {
    return path.join(this.referrers(name, subject), partsOf(digest).join('-'));
  }

  upload(name: string, id: string): string {
    return path.join(this.repository(name), '_uploads', id);
  }
}

function partsOf(digest: Digest): [string, string] {
  checkDigest(digest);
  return [digestAlgorithm(digest), digestHex(digest)];
}
