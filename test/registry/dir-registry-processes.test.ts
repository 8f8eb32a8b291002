import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { createHash, randomInt } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it, onTestFinished } from 'vitest';
import { parseDigest } from '../../src/oci/digest.ts';
import { DirRegistry } from '../../src/registry/dir-registry.ts';
import { rounds } from '../support/fixtures.ts';
import { digestOf, listAll, readAll } from '../support/registry-content.ts';
import { checkNothingUnreferenced, checkStore, indexedTags, servedTags } from '../support/store-check.ts';
import { tempDir } from '../support/tmp.ts';

type Role = 'tag' | 'push' | 'race' | 'collect' | 'collect-old';

interface TagState {
  readonly repository: string;
  readonly tag: string;
  /** Null for a deleted tag. */
  readonly manifest: string | null;
  readonly blobs?: readonly string[];
}

/** A line of a worker. */
interface Line {
  readonly intent?: TagState;
  readonly image?: TagState;
  readonly blob?: { readonly repository: string; readonly digest: string };
  readonly referrer?: { readonly repository: string; readonly subject: string; readonly digest: string };
  readonly upload?: {
    readonly repository: string;
    readonly id: string;
    readonly seed: string;
    readonly total: number;
    readonly written: number;
  };
  readonly refused?: unknown;
  readonly error?: string;
}

interface Worker {
  readonly child: ChildProcess;
  /** All lines, once the process is gone. */
  readonly lines: Promise<readonly Line[]>;
  /** Resolves with the first line. */
  readonly begun: Promise<void>;
}

const program = new URL('../fixtures/store-worker.mjs', import.meta.url).pathname;

function startWorker(root: string, role: Role, name: string, count = 1_000_000): Worker {
  const child = spawn(process.execPath, [program, root, role, name, String(count)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  onTestFinished(() => void child.kill('SIGKILL'));
  let text = '';
  const begun = new Promise<void>((resolve) => {
    child.stdout.on('data', (chunk: Buffer) => {
      text += chunk.toString();
      resolve();
    });
    child.once('close', () => resolve());
  });
  const lines = once(child, 'close').then(() => {
    const whole = text
      .slice(0, text.lastIndexOf('\n') + 1)
      .split('\n')
      .slice(0, -1);
    return whole.map((line) => JSON.parse(line) as Line);
  });
  return { child, lines, begun };
}

async function finish(workers: readonly Worker[]): Promise<readonly (readonly Line[])[]> {
  const all = await Promise.all(workers.map((worker) => worker.lines));
  expect(all.flat().flatMap(({ error }) => error ?? [])).toEqual([]);
  return all;
}

async function expectImage(registry: DirRegistry, { repository, tag, manifest, blobs = [] }: TagState): Promise<void> {
  if (manifest === null) {
    await expect(registry.resolveTag(repository, tag)).rejects.toMatchObject({ code: 'MANIFEST_UNKNOWN' });
    return;
  }
  expect((await registry.getTag(repository, tag)).descriptor.digest).toBe(manifest);
  for (const digest of blobs) await readAll(await registry.getBlob(repository, parseDigest(digest)));
}

describe('several processes on one DirRegistry', () => {
  it('lose no tag in index.json', async () => {
    const root = tempDir();
    const workers = ['a', 'b', 'c'].map((name) => startWorker(root, 'tag', name, 15));
    const images = (await finish(workers)).flat().flatMap(({ image }) => image ?? []);
    expect(images).toHaveLength(45);
    const expected = new Map(images.map(({ repository, tag, manifest }) => [`${repository}:${tag}`, manifest]));
    expect(indexedTags(root)).toEqual(expected);
    expect(await servedTags(new DirRegistry(root))).toEqual(expected);
  });

  it('lose no acknowledged image to collectors without a period of grace', async () => {
    const root = tempDir();
    const collectors = [startWorker(root, 'collect', 'x'), startWorker(root, 'collect', 'y')];
    const pushers = ['a', 'b'].map((name) => startWorker(root, 'race', name, rounds(200, 25, 0.15)));
    const lines = await finish(pushers);
    for (const { child } of collectors) child.kill('SIGKILL');
    await finish(collectors);
    const last = new Map<string, TagState>();
    for (const { image } of lines.flat()) if (image !== undefined) last.set(`${image.repository}:${image.tag}`, image);
    const registry = new DirRegistry(root);
    // A refused push left its tag where it was.
    for (const state of last.values()) await expectImage(registry, state);
    expect(last.size).toBeGreaterThan(0);
    await checkStore(root);
  });

  it('are refused nothing by a collector with a period of grace', async () => {
    const root = tempDir();
    const collector = startWorker(root, 'collect-old', 'x');
    const lines = await finish(['a', 'b'].map((name) => startWorker(root, 'push', name, 15)));
    collector.child.kill('SIGKILL');
    await finish([collector]);
    expect(lines.flat().filter(({ refused }) => refused !== undefined)).toEqual([]);
    await checkStore(root);
  });
});

describe('a DirRegistry whose processes are killed', () => {
  it('serves no wrong byte, loses nothing acknowledged, resumes uploads and is clean after a collection', async () => {
    const root = tempDir();
    const tags = new Map<string, TagState>();
    const kills = rounds(200, 10, 0.1);
    for (let round = 0; round < Math.ceil(kills / 2); round += 1) {
      // Every third round the collector is there too, and may take what only a blob's push was acknowledged for.
      const collecting = round % 3 === 2;
      const workers = [
        startWorker(root, collecting ? 'race' : 'push', 'a'),
        startWorker(root, collecting ? 'collect' : 'push', 'b'),
      ];
      await Promise.all(
        workers.map(async ({ child, begun }) => {
          await begun;
          await delay(randomInt(250));
          child.kill('SIGKILL');
        }),
      );
      const registry = new DirRegistry(root);
      for (const lines of await finish(workers)) {
        await settleTags(registry, tags, lines);
        if (!collecting) await checkAcknowledged(registry, lines);
      }
      await appendToLeftUploads(root, registry);
      for (const state of tags.values()) await expectImage(registry, state);
      if (round % 10 === 0) await checkStore(root);
      if (round % 10 === 9) await registry.collectGarbage({ olderThanMs: 0, untagged: true });
    }
    await checkStore(root);
    const registry = new DirRegistry(root);
    await registry.collectGarbage({ olderThanMs: 0, untagged: true });
    for (const state of tags.values()) await expectImage(registry, state);
    await checkStore(root);
    checkNothingUnreferenced(root);
    const again = await registry.collectGarbage({ olderThanMs: 0, untagged: true });
    expect(
      Object.values(again).map((kind: number | { count: number }) => (typeof kind === 'number' ? kind : kind.count)),
    ).toEqual(Object.values(again).map(() => 0));
  }, 600_000);
});

/** What was acknowledged is expected from now on. The one change that was under way may have happened. */
async function settleTags(registry: DirRegistry, tags: Map<string, TagState>, lines: readonly Line[]): Promise<void> {
  let open: TagState | undefined;
  for (const { intent, image, refused } of lines) {
    if (intent !== undefined) open = intent;
    if (refused !== undefined) open = undefined;
    if (image === undefined) continue;
    open = undefined;
    tags.set(`${image.repository}:${image.tag}`, image);
  }
  if (open === undefined) return;
  const now = await registry.resolveTag(open.repository, open.tag).then(
    ({ digest }) => digest as string,
    () => null,
  );
  if (now === open.manifest) tags.set(`${open.repository}:${open.tag}`, open);
}

/** Would change the bytes of a blob whose file an upload still is. */
async function appendToLeftUploads(root: string, registry: DirRegistry): Promise<void> {
  for await (const repository of registry.repositories()) {
    const dir = path.join(root, 'repositories', repository, '_uploads');
    for (const id of existsSync(dir) ? readdirSync(dir) : []) {
      const upload = await registry.resumeBlob(repository, id, undefined);
      const refused = await upload.write(Buffer.from('more')).catch((error: unknown) => error);
      await upload.close();
      if (refused !== undefined) expect(refused).toMatchObject({ code: 'BLOB_UPLOAD_UNKNOWN' });
    }
  }
}

async function checkAcknowledged(registry: DirRegistry, lines: readonly Line[]): Promise<void> {
  const finished = new Set<string>();
  for (const { blob, referrer } of lines) {
    if (blob !== undefined) {
      finished.add(blob.digest);
      await readAll(await registry.getBlob(blob.repository, parseDigest(blob.digest)));
    }
    if (referrer === undefined) continue;
    const listed = await listAll(registry.referrers(referrer.repository, parseDigest(referrer.subject)));
    expect(listed.map(({ digest }) => digest)).toContain(referrer.digest);
  }
  const upload = lines.findLast((line) => line.upload !== undefined)?.upload;
  if (upload === undefined) return;
  const bytes = Buffer.alloc(upload.total, createHash('sha512').update(upload.seed).digest());
  const digest = digestOf(bytes);
  if (finished.has(digest)) return;
  const resumed = await registry.resumeBlob(upload.repository, upload.id, undefined).catch((error: unknown) => error);
  if (resumed instanceof Error) {
    // Killed between the end of the commit and its acknowledgement.
    await readAll(await registry.getBlob(upload.repository, digest));
    return;
  }
  const writer = resumed as Awaited<ReturnType<DirRegistry['resumeBlob']>>;
  expect(writer.size).toBeGreaterThanOrEqual(upload.written);
  await writer.write(bytes.subarray(writer.size));
  await writer.commit(digest);
  expect(await readAll(await registry.getBlob(upload.repository, digest))).toEqual(bytes);
}
