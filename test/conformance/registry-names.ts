// Path tricks and other names that are none, in every call of a registry that takes a name.
import { Readable } from 'node:stream';
import { beforeAll, describe, expect, it } from 'vitest';
import type { Digest } from '../../src/oci/digest.ts';
import type { RegistryErrorCode } from '../../src/registry/errors.ts';
import type { Registry } from '../../src/registry/registry.ts';
import { content, listAll } from '../support/registry-content.ts';

const hex = 'a'.repeat(64);

const badRepositories =
  `.. . ../a a/../b a/.. /a /etc/passwd a/ a//b ./a a\\b %2e%2e a%2fb %2e A a/B _uploads a/_uploads a/_x .hidden -a a- a..b é \u{1F600}
  a?b a:b a@b ${'a'.repeat(256)} ${'a/'.repeat(127)}aa`
    .split(/\s+/)
    .concat('a b', 'a\0b', 'a\n');

const badTags = `.. .x -x ../x a/b a:b %2e%2e é ${'a'.repeat(129)}`.split(' ').concat('', 'a b', 'a\0', 'a\n');

const badDigests =
  `sha256: sha256:../../x sha256:${hex.slice(1)} sha256:${hex}a sha256:${hex.toUpperCase()} sha512:${hex} md5:${hex.slice(32)} SHA256:${hex}
  sha256:${hex.slice(1)}/ sha256:${hex.slice(2)}.. ../${hex} %2e%2e:${hex}`
    .split(/\s+/)
    .concat(`sha256:${hex}\n`, `sha256:${hex.slice(1)}\0`);

const badUploads = `../x .. /etc/passwd %2e%2e ${'F'.repeat(32)} ${'f'.repeat(32)}/ ../${'f'.repeat(29)}`
  .split(' ')
  .concat('', 'a\0b');

/** Every call that names a repository, or, when a digest is given, every call that names one. */
function callsWith(
  registry: Registry,
  names: { readonly repository?: string; readonly digest?: Digest },
): readonly (() => Promise<unknown>)[] {
  const { repository: r = 'a', digest } = names;
  const d = digest ?? content('x').descriptor.digest;
  const empty = () => Readable.from([], { objectMode: false });
  const withDigest = [
    () => registry.getBlob(r, d),
    () => registry.getBlobRange(r, d, 0, 1),
    () => registry.getManifest(r, d),
    () => registry.resolveBlob(r, d),
    () => registry.resolveManifest(r, d),
    () => registry.pushBlob(r, { mediaType: 'a/b', digest: d, size: 0 }, empty),
    () => registry.mountBlob('a', r, d),
    () => registry.deleteManifest(r, d),
    () => listAll(registry.referrers(r, d)),
  ];
  if (digest !== undefined) return withDigest;
  return [
    ...withDigest,
    () => registry.getTag(r, 'x'),
    () => registry.resolveTag(r, 'x'),
    () => registry.pushBlobChunked(r, undefined),
    () => registry.resumeBlob(r, 'f'.repeat(32), 0),
    () => registry.pushManifest(r, 'x', Buffer.from('{}'), 'a/b'),
    () => registry.deleteTag(r, 'x'),
    () => listAll(registry.tags(r)),
  ];
}

export function withCode(...codes: readonly RegistryErrorCode[]): unknown {
  return expect.objectContaining({
    name: 'RegistryError',
    code: expect.stringMatching(new RegExp(`^(?:${codes.join('|')})$`)),
  });
}

/** `registry` is asked for when the tests run. */
export function refusesBadNames(registryOf: () => Registry): void {
  describe('names', () => {
    const { digest } = content('x').descriptor;
    let registry: Registry;
    beforeAll(() => {
      registry = registryOf();
    });

    it('refuses repositories that are none in every call', async () => {
      for (const name of badRepositories) {
        for (const call of callsWith(registry, { repository: name }))
          await expect(call(), `${JSON.stringify(name)}: ${call.toString()}`).rejects.toEqual(withCode('NAME_INVALID'));
        await expect(registry.mountBlob(name, 'a', digest)).rejects.toEqual(withCode('NAME_INVALID'));
        await expect(registry.deleteBlob(name, digest)).rejects.toEqual(withCode('NAME_INVALID', 'UNSUPPORTED'));
      }
    });

    it('refuses tags that are none in every call', async () => {
      for (const tag of badTags) {
        for (const call of [
          () => registry.getTag('a', tag),
          () => registry.resolveTag('a', tag),
          () => registry.deleteTag('a', tag),
          () => registry.pushManifest('a', tag, Buffer.from('{}'), 'a/b'),
        ])
          await expect(call(), JSON.stringify(tag)).rejects.toEqual(withCode('TAG_INVALID'));
      }
    });

    it('refuses digests that are none in every call', async () => {
      for (const text of badDigests) {
        for (const call of callsWith(registry, { digest: text as typeof digest }))
          await expect(call(), `${JSON.stringify(text)}: ${call.toString()}`).rejects.toEqual(
            withCode('DIGEST_INVALID'),
          );
        const deleting = registry.deleteBlob('a', text as typeof digest);
        await expect(deleting).rejects.toEqual(withCode('DIGEST_INVALID', 'UNSUPPORTED'));
      }
    });

    it('knows no upload that it did not begin', async () => {
      for (const id of badUploads)
        await expect(registry.resumeBlob('a', id, undefined), JSON.stringify(id)).rejects.toEqual(
          withCode('BLOB_UPLOAD_UNKNOWN'),
        );
    });
  });
}
