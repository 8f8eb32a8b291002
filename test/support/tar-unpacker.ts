// The part of an Unpacker that makes a whole tree, by the tar of this machine: slow, simple, and another program than ours.
import { createWriteStream } from 'node:fs';
import { chmod, mkdtemp, readdir, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import type { UnpackImageRequest, Unpacker, UnpackOptions } from '../../src/unpack/unpacker.ts';
import { runOk } from './run.ts';

export class TarUnpacker implements Pick<Unpacker, 'unpackImage'> {
  readonly requests: UnpackImageRequest[] = [];

  async unpackImage(request: UnpackImageRequest, { signal }: UnpackOptions): Promise<void> {
    this.requests.push(request);
    const work = await mkdtemp(join(dirname(request.dir), '.tar-unpacker-'));
    const tree = join(work, 'tree');
    try {
      await runOk('mkdir', [tree]);
      for (const { descriptor, source } of request.layers) {
        const reader = await source.readAll({ signal });
        const blob = join(work, 'blob');
        await pipeline(reader.body, createWriteStream(blob), { signal });
        await applyWhiteouts(blob, tree);
        const owners = request.ownership === 'mine' ? ['--no-same-owner'] : ['--same-owner', '--numeric-owner'];
        await runOk('tar', ['-C', tree, ...owners, '-p', '--exclude', '.wh.*', '-xf', blob]);
        request.onProgress?.({ what: `layer ${descriptor.digest}`, done: descriptor.size, total: descriptor.size });
      }
      await chmod(tree, 0o755);
      await rename(tree, request.dir);
    } finally {
      await rm(work, { recursive: true, force: true });
    }
  }
}

/** What the layer hides of those below. */
async function applyWhiteouts(blob: string, tree: string): Promise<void> {
  const names = (await runOk('tar', ['-tf', blob])).split('\n');
  for (const name of names) {
    const [, parent = '', hidden = ''] = /^(.*\/)?\.wh\.([^/]+)$/.exec(name) ?? [];
    if (hidden === '') continue;
    const dir = join(tree, parent);
    const gone = hidden === '.wh..opq' ? await readdir(dir) : [hidden];
    for (const each of gone) await rm(join(dir, each), { recursive: true, force: true });
  }
}
