// What must hold for a store on disk at any moment, looked at from outside and through the library.
import { readFileSync, readdirSync, statSync } from 'node:fs';
import path from 'node:path';
import { expect } from 'vitest';
import { digestAlgorithm, digestHex, isDigest, parseDigest } from '../../src/oci/digest.ts';
import type { Digest } from '../../src/oci/digest.ts';
import { parseManifestOrIndex } from '../../src/oci/manifest.ts';
import { DirRegistry } from '../../src/registry/dir-registry.ts';
import { digestOf, listAll, readAll } from './registry-content.ts';

const files = (dir: string): string[] =>
  readdirSync(dir, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => path.join(entry.parentPath, entry.name));

/** `repository:tag` → digest, as index.json says. */
export function indexedTags(root: string): Map<string, string> {
  const index = JSON.parse(readFileSync(path.join(root, 'index.json'), 'utf8')) as {
    manifests: { digest: string; annotations: Record<string, string> }[];
  };
  return new Map(
    index.manifests.map(({ digest, annotations }) => [annotations['org.opencontainers.image.ref.name'] ?? '', digest]),
  );
}

/** The same as the registry says. Every tag answers. */
export async function servedTags(registry: DirRegistry): Promise<Map<string, string>> {
  const tags = new Map<string, string>();
  for (const repository of await listAll(registry.repositories())) {
    for (const tag of await listAll(registry.tags(repository))) {
      const { descriptor, bytes } = await registry.getTag(repository, tag);
      expect(digestOf(bytes)).toBe(descriptor.digest);
      tags.set(`${repository}:${tag}`, descriptor.digest);
    }
  }
  return tags;
}

/** Everything that can be read is what its digest says, and every manifest has what it needs. */
export async function checkStore(root: string): Promise<void> {
  const registry = new DirRegistry(root);
  for (const file of files(path.join(root, 'blobs'))) {
    if (path.basename(file).startsWith('.')) continue;
    const digest = parseDigest(`${path.basename(path.dirname(file))}:${path.basename(file)}`);
    expect(digestOf(readFileSync(file), digestAlgorithm(digest))).toBe(digest);
  }
  for (const repository of await listAll(registry.repositories())) {
    for (const digest of ownDigests(root, repository, '_manifests')) {
      const { bytes, descriptor } = await registry.getManifest(repository, digest);
      const document = parseManifestOrIndex(bytes, descriptor.mediaType);
      const needs = document.kind === 'index' ? [] : [document.config, ...document.layers];
      for (const blob of needs) {
        expect((await readAll(await registry.getBlob(repository, blob.digest))).byteLength).toBe(blob.size);
        expect(statSync(path.join(root, 'blobs', 'sha256', digestHex(blob.digest))).size).toBe(blob.size);
      }
      if (document.subject === undefined) continue;
      const listed = await listAll(registry.referrers(repository, document.subject.digest));
      expect(listed.map((referrer) => referrer.digest)).toContain(digest);
    }
  }
  await registry.repair();
  expect(indexedTags(root)).toEqual(await servedTags(registry));
}

/** Nothing lies in the store that nothing needs. */
export function checkNothingUnreferenced(root: string): void {
  const repositories = path.join(root, 'repositories');
  const needed = new Set<string>();
  for (const file of files(repositories).filter((name) => /\/_manifests\/[^/]+\/[0-9a-f]+$/.test(name))) {
    const repository = file.slice(0, file.indexOf('/_manifests/'));
    for (const [digest] of readFileSync(file, 'utf8').matchAll(/sha256:[0-9a-f]{64}/g))
      needed.add(`${repository} ${digest}`);
  }
  for (const file of files(root)) {
    expect(path.basename(file)).not.toMatch(/\.tmp$/);
    expect(file).not.toContain('/_uploads/');
    const blob = /^(.*)\/_blobs\/sha256\/([0-9a-f]{64})$/.exec(file);
    if (blob !== null) expect(needed).toContain(`${blob[1]} sha256:${blob[2]}`);
    if (file.startsWith(path.join(root, 'blobs'))) expect(statSync(file).nlink, file).toBeGreaterThan(1);
    if (file.endsWith('.type')) expect(statSync(file.slice(0, -'.type'.length)).isFile()).toBe(true);
  }
}

function ownDigests(root: string, repository: string, kind: string): Digest[] {
  const dir = path.join(root, 'repositories', repository, kind, 'sha256');
  try {
    return readdirSync(dir)
      .map((hex) => `sha256:${hex}`)
      .filter(isDigest);
  } catch {
    return [];
  }
}
