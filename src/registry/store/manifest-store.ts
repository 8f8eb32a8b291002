import { randomBytes } from 'node:crypto';
import { rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { Descriptor } from '../../oci/descriptor.ts';
import { parseDescriptor } from '../../oci/descriptor-json.ts';
import { isDigest } from '../../oci/digest.ts';
import type { Digest } from '../../oci/digest.ts';
import { OciError } from '../../oci/errors.ts';
import { isTag } from '../../oci/reference.ts';
import { RegistryError, hasCode } from '../errors.ts';
import { nameOfManifest } from '../manifest-check.ts';
import { tagTaken } from '../not-found.ts';
import { referrerOf } from '../referrer-of.ts';
import type { ManifestContent } from '../interface.ts';
import { renew, statIfPresent, unlinkIfPresent } from './content-pool.ts';
import type { ContentPool } from './content-pool.ts';
import { readIfPresent, syncDirectory, writeDurably, writeNewDurably } from './durable-file.ts';
import type { StorePaths } from './paths.ts';
import { namesIn } from './repository-folders.ts';

/** Manifests, tags and the lists of referrers of the store on disk. */
export class ManifestStore {
  readonly #paths: StorePaths;
  readonly #pool: ContentPool;

  constructor(paths: StorePaths, pool: ContentPool) {
    this.#paths = paths;
    this.#pool = pool;
  }

  /** The bytes come last: a manifest that is there has its type, and its place in the list of referrers when it has a subject. */
  async put(repository: string, descriptor: Descriptor, bytes: Uint8Array): Promise<void> {
    const { digest, mediaType } = descriptor;
    const own = this.#paths.manifest(repository, digest);
    const existing = await this.get(repository, digest).catch(ignoreDamage);
    if (existing?.descriptor.mediaType === mediaType) {
      await renew(own);
      // Whoever brought it may not be that far yet.
      await syncDirectory(path.dirname(own));
      return;
    }
    await writeDurably(this.#paths.manifestType(repository, digest), mediaType);
    const listed = referrerOf(bytes, descriptor);
    if (listed !== undefined) {
      const { subject, referrer } = listed;
      await writeDurably(this.#paths.referrer(repository, subject, digest), JSON.stringify(referrer));
    }
    const temporary = path.join(path.dirname(own), `.${randomBytes(8).toString('hex')}.tmp`);
    try {
      await writeFile(temporary, bytes, { flag: 'wx', flush: true });
      if (!(await this.#pool.adopt(digest, temporary, own)))
        throw new RegistryError('UNKNOWN', `manifest ${digest} of ${repository} was taken away while it was stored`);
    } finally {
      await rm(temporary, { force: true });
    }
  }

  /** Errors: DIGEST_INVALID when it is damaged. */
  async get(repository: string, digest: Digest): Promise<ManifestContent | undefined> {
    const bytes = await readIfPresent(this.#paths.manifest(repository, digest));
    const mediaType = await readIfPresent(this.#paths.manifestType(repository, digest));
    if (bytes === undefined || mediaType === undefined) return undefined;
    nameOfManifest(bytes, digest);
    return { descriptor: { mediaType: mediaType.toString('utf8'), digest, size: bytes.byteLength }, bytes };
  }

  async resolve(repository: string, digest: Digest): Promise<Descriptor | undefined> {
    return (await this.find(repository, digest))?.descriptor;
  }

  /** With the time of the last use. */
  async find(
    repository: string,
    digest: Digest,
  ): Promise<{ readonly descriptor: Descriptor; readonly mtimeMs: number } | undefined> {
    const mediaType = await readIfPresent(this.#paths.manifestType(repository, digest));
    const found = await statIfPresent(this.#paths.manifest(repository, digest));
    if (mediaType === undefined || found === undefined) return undefined;
    const descriptor = { mediaType: mediaType.toString('utf8'), digest, size: found.size };
    return { descriptor, mtimeMs: found.mtimeMs };
  }

  /** False when there was none. Nothing else may change the repository meanwhile. Its tags are to be removed first; the content stays. */
  async remove(repository: string, digest: Digest): Promise<boolean> {
    const own = this.#paths.manifest(repository, digest);
    const listed = await this.get(repository, digest).catch(ignoreDamage);
    if (!(await unlinkIfPresent(own))) return false;
    await syncDirectory(path.dirname(own));
    await rm(this.#paths.manifestType(repository, digest), { force: true });
    const subject = listed === undefined ? undefined : referrerOf(listed.bytes, listed.descriptor)?.subject;
    if (subject !== undefined) await rm(this.#paths.referrer(repository, subject, digest), { force: true });
    return true;
  }

  /** Digests of all manifests of the repository. */
  async digests(repository: string): Promise<Digest[]> {
    return await digestsIn(this.#paths.manifests(repository));
  }

  /** The tags that name a manifest. */
  async tagsOf(repository: string, digest: Digest): Promise<string[]> {
    const found: string[] = [];
    for (const tag of (await this.tags(repository)) ?? [])
      if ((await this.tag(repository, tag).catch(ignoreDamage)) === digest) found.push(tag);
    return found;
  }

  async putTag(repository: string, tag: string, digest: Digest): Promise<void> {
    await writeDurably(this.#paths.tag(repository, tag), digest);
  }

  /** Of all processes that do this at once one gives the tag. Errors: DENIED when it names another manifest. */
  async putNewTag(repository: string, tag: string, digest: Digest): Promise<void> {
    while (!(await writeNewDurably(this.#paths.tag(repository, tag), digest))) {
      const holder = await this.tag(repository, tag);
      if (holder === digest) return;
      // One that was deleted at this moment leaves the tag free.
      if (holder !== undefined) throw tagTaken(repository, tag, holder);
    }
  }

  /** Also when what it says is damaged. */
  async hasTag(repository: string, tag: string): Promise<boolean> {
    return (await statIfPresent(this.#paths.tag(repository, tag))) !== undefined;
  }

  async tag(repository: string, tag: string): Promise<Digest | undefined> {
    const text = (await readIfPresent(this.#paths.tag(repository, tag)))?.toString('latin1');
    if (text === undefined) return undefined;
    if (!isDigest(text)) throw new RegistryError('UNKNOWN', `tag ${repository}:${tag} of the store on disk is damaged`);
    return text;
  }

  async removeTag(repository: string, tag: string): Promise<boolean> {
    if (!(await unlinkIfPresent(this.#paths.tag(repository, tag)))) return false;
    await syncDirectory(this.#paths.tags(repository));
    return true;
  }

  /** Sorted; undefined when the repository does not exist. */
  async tags(repository: string): Promise<string[] | undefined> {
    const names = await namesIn(this.#paths.tags(repository));
    if (names !== undefined) return names.filter(isTag);
    const own = (await namesIn(this.#paths.repository(repository))) ?? [];
    return own.some((name) => name.startsWith('_')) ? [] : undefined;
  }

  /** In the order of their digests; those whose manifest is not there (yet, or any more) are left out. */
  async *referrers(repository: string, subject: Digest): AsyncGenerator<Descriptor> {
    for (const name of (await namesIn(this.#paths.referrers(repository, subject))) ?? []) {
      const digest = name.replace('-', ':');
      if (!isDigest(digest)) continue;
      if ((await statIfPresent(this.#paths.manifest(repository, digest))) === undefined) continue;
      const bytes = await readIfPresent(this.#paths.referrer(repository, subject, digest));
      if (bytes !== undefined) yield parseReferrer(bytes, repository, digest);
    }
  }
}

/** The names in the folders of one algorithm each, as digests. Temporary files and what else is no digest are left out. */
export async function digestsIn(dir: string): Promise<Digest[]> {
  const found: Digest[] = [];
  for (const algorithm of (await namesIn(dir)) ?? []) {
    for (const hex of (await namesIn(path.join(dir, algorithm))) ?? []) {
      const digest = `${algorithm}:${hex}`;
      if (isDigest(digest)) found.push(digest);
    }
  }
  return found;
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

/** What is damaged can still be removed. */
function ignoreDamage(error: unknown): undefined {
  if (hasCode(error, 'UNKNOWN', 'DIGEST_INVALID')) return undefined;
  throw error;
}
