import { readdir, rm, stat, unlink } from 'node:fs/promises';
import type { Descriptor } from '../../oci/descriptor.ts';
import { parseDescriptor } from '../../oci/descriptor-json.ts';
import { isDigest } from '../../oci/digest.ts';
import type { Digest } from '../../oci/digest.ts';
import { OciError } from '../../oci/errors.ts';
import { RegistryError } from '../errors.ts';
import type { ManifestContent } from '../interface.ts';
import { isNotFound, readIfPresent, syncDirectory, writeDurably } from './durable-file.ts';
import type { StorePaths } from './paths.ts';

/** Manifests, tags and the lists of referrers of the store on disk. */
export class ManifestStore {
  readonly #paths: StorePaths;

  constructor(paths: StorePaths) {
    this.#paths = paths;
  }

  /** The bytes come last, so a manifest that is there has its type. */
  async put(repository: string, digest: Digest, bytes: Uint8Array, mediaType: string): Promise<void> {
    await writeDurably(this.#paths.manifestType(repository, digest), mediaType);
    await writeDurably(this.#paths.manifest(repository, digest), bytes);
  }

  async get(repository: string, digest: Digest): Promise<ManifestContent | undefined> {
    const bytes = await readIfPresent(this.#paths.manifest(repository, digest));
    const mediaType = await readIfPresent(this.#paths.manifestType(repository, digest));
    if (bytes === undefined || mediaType === undefined) return undefined;
    return { descriptor: { mediaType: mediaType.toString('utf8'), digest, size: bytes.byteLength }, bytes };
  }

  async resolve(repository: string, digest: Digest): Promise<Descriptor | undefined> {
    const mediaType = await readIfPresent(this.#paths.manifestType(repository, digest));
    const size = await stat(this.#paths.manifest(repository, digest)).then((s) => s.size, absent);
    return mediaType === undefined || size === undefined
      ? undefined
      : { mediaType: mediaType.toString('utf8'), digest, size };
  }

  /** False when there was none. Tags that name it go with it. */
  async remove(repository: string, digest: Digest): Promise<boolean> {
    for (const tag of (await this.tags(repository)) ?? []) {
      if ((await this.tag(repository, tag)) === digest) await this.removeTag(repository, tag);
    }
    try {
      await unlink(this.#paths.manifest(repository, digest));
    } catch (error) {
      if (isNotFound(error)) return false;
      throw error;
    }
    await rm(this.#paths.manifestType(repository, digest), { force: true });
    return true;
  }

  async putTag(repository: string, tag: string, digest: Digest): Promise<void> {
    await writeDurably(this.#paths.tag(repository, tag), digest);
  }

  async tag(repository: string, tag: string): Promise<Digest | undefined> {
    const text = (await readIfPresent(this.#paths.tag(repository, tag)))?.toString('latin1');
    if (text === undefined) return undefined;
    if (!isDigest(text)) throw new RegistryError('UNKNOWN', `tag ${repository}:${tag} of the store on disk is damaged`);
    return text;
  }

  async removeTag(repository: string, tag: string): Promise<boolean> {
    try {
      await unlink(this.#paths.tag(repository, tag));
    } catch (error) {
      if (isNotFound(error)) return false;
      throw error;
    }
    await syncDirectory(this.#paths.tags(repository));
    return true;
  }

  /** Sorted; undefined when the repository does not exist. */
  async tags(repository: string): Promise<string[] | undefined> {
    const names = await namesIn(this.#paths.tags(repository));
    if (names !== undefined) return names;
    return (await stat(this.#paths.repository(repository)).catch(absent)) === undefined ? undefined : [];
  }

  async putReferrer(repository: string, subject: Digest, referrer: Descriptor): Promise<void> {
    await writeDurably(this.#paths.referrer(repository, subject, referrer.digest), JSON.stringify(referrer));
  }

  async removeReferrer(repository: string, subject: Digest, digest: Digest): Promise<void> {
    await rm(this.#paths.referrer(repository, subject, digest), { force: true });
  }

  /** In the order of their digests. */
  async *referrers(repository: string, subject: Digest): AsyncGenerator<Descriptor> {
    for (const name of (await namesIn(this.#paths.referrers(repository, subject))) ?? []) {
      const digest = name.replace('-', ':');
      if (!isDigest(digest)) continue;
      const bytes = await readIfPresent(this.#paths.referrer(repository, subject, digest));
      if (bytes !== undefined) yield parseReferrer(bytes, repository, digest);
    }
  }
}

function parseReferrer(bytes: Buffer, repository: string, digest: Digest): Descriptor {
  try {
    return parseDescriptor(JSON.parse(bytes.toString('utf8')), 'referrer');
  } catch (error) {
    if (!(error instanceof OciError) && !(error instanceof SyntaxError)) throw error;
    throw new RegistryError('UNKNOWN', `referrer ${digest} of ${repository} in the store on disk is damaged`, {
      cause: error,
    });
  }
}

async function namesIn(dir: string): Promise<string[] | undefined> {
  try {
    return (await readdir(dir)).filter((name) => !name.startsWith('.')).sort();
  } catch (error) {
    return absent(error);
  }
}

function absent(error: unknown): undefined {
  if (isNotFound(error)) return undefined;
  throw error;
}
