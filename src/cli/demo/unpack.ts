// Downloading and unpacking an image as fast as plain tools do it: every blob at once, then one tar per layer, in order.
import { spawn } from 'node:child_process';
import { createWriteStream } from 'node:fs';
import { mkdir, readdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { pipeline } from 'node:stream/promises';
import { type Digest, digestHex } from '../../oci/digest.ts';
import { parseManifest } from '../../oci/manifest.ts';
import { RemoteRegistry } from '../../registry/remote-registry.ts';
import { CommandError } from '../errors.ts';
import { ended } from './child.ts';
import type { PushTarget } from './push-layout.ts';

const whiteout = '.wh.';
const opaque = '.wh..wh..opq';

/** Returns the root directory, new below `work`. Blobs are checked against their digests. */
export async function downloadAndUnpack(source: PushTarget, work: string, signal: AbortSignal): Promise<string> {
  const [blobs, root] = [path.join(work, 'downloaded'), path.join(work, 'unpacked')];
  await mkdir(blobs);
  await mkdir(root);
  const layers = await download(source, blobs, signal);
  for (const digest of layers) await unpackLayer(path.join(blobs, digestHex(digest)), root, signal);
  return root;
}

async function download({ host, repository, tag }: PushTarget, dir: string, signal: AbortSignal): Promise<Digest[]> {
  const registry = new RemoteRegistry({ host });
  try {
    const { bytes, descriptor } = await registry.getTag(repository, tag, { signal });
    const { layers, config } = parseManifest(bytes, descriptor.mediaType);
    await Promise.all(
      [config, ...layers].map(async ({ digest }) => {
        const { body } = await registry.getBlob(repository, digest, { signal });
        await pipeline(body, createWriteStream(path.join(dir, digestHex(digest))), { signal });
      }),
    );
    return layers.map(({ digest }) => digest);
  } finally {
    await registry.close();
  }
}

async function unpackLayer(blob: string, root: string, signal: AbortSignal): Promise<void> {
  const args = ['-xzvf', blob, '-C', root, '--numeric-owner'];
  const tar = spawn('tar', args, { stdio: ['ignore', 'pipe', 'inherit'], signal });
  const end = ended(tar, 'tar');
  const members = new Set<string>();
  for await (const line of createInterface({ input: tar.stdout })) members.add(line.replace(/\/$/, ''));
  const outcome = await end;
  if (outcome !== '0') throw new CommandError(`unpacking ${blob} failed: tar ended with ${outcome}`);
  await applyWhiteouts(members, root);
}

/** OCI image spec, layer.md: what a layer hides is what the layers below it brought, never what it brings itself. */
async function applyWhiteouts(members: ReadonlySet<string>, root: string): Promise<void> {
  for (const member of members) {
    const name = path.basename(member);
    if (!name.startsWith(whiteout)) continue;
    const dir = path.dirname(member);
    const hidden = name === opaque ? await readdir(path.join(root, dir)) : [name.slice(whiteout.length)];
    for (const each of hidden) {
      const target = path.join(dir, each);
      if (!members.has(target)) await rm(path.join(root, target), { recursive: true, force: true });
    }
    await rm(path.join(root, member), { force: true });
  }
}
