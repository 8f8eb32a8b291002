// A disk that cannot read some bytes of a complete layer any more: whoever reads the file himself, as the kernel does, would never get them.
import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { PeelNode } from '../support/peel-node.ts';
import { peel, runOk } from '../support/run.ts';
import { tarOf } from '../support/tar-members.ts';
import { tempDir } from '../support/tmp.ts';
import { layersOf, TestRegistry } from '../support/test-registry.ts';

it('is written anew by fsck where the disk gives the rest, and nothing is given up where it gives nothing', async () => {
  const registry = await TestRegistry.start();
  onTestFinished(() => registry.close());
  const node = new PeelNode();
  onTestFinished(() => node.close());
  const dir = tempDir();
  const [tar, sector] = [join(dir, 'layer.tar'), join(dir, 'bad-sector.so')];
  writeFileSync(tar, tarOf({ path: 'f', data: randomBytes(6 << 20) }));
  const { layers } = await registry.push('app', layersOf([tar]));
  const reference = registry.reference('app');
  // Downloaded whole for want of an index.
  await node.ok(['ls', reference]);
  const source = new URL('bad-sector.c', import.meta.url).pathname;
  await runOk('gcc', ['-shared', '-fPIC', '-O1', '-Wall', '-Wextra', '-Werror', '-o', sector, source, '-ldl']);
  const fsck = (range: string, ...args: string[]) =>
    peel(['fsck', ...args], {
      env: { ...node.env, LD_PRELOAD: sector, PEEL_BAD_FILE: '/data', PEEL_BAD_RANGE: range },
    });
  const all = await fsck('0-99999999', '--repair');
  expect([all.code, all.out]).toEqual([4, expect.stringMatching(/cannot be checked: EIO/)]);
  expect(await node.peel(['fsck'])).toMatchObject({ code: 0 });
  const seen = await fsck('5000000-5000512');
  expect([seen.code, seen.out]).toEqual([
    4,
    expect.stringMatching(/: 1 of \d+ spans cannot be read from the disk \(\d+\)\n/),
  ]);
  const data = join(node.root, 'blobs/sha256', layers[0]?.descriptor.digest.slice(7) ?? '', 'data');
  const right = readFileSync(data);
  const repaired = await fsck('5000000-5000512', '--repair');
  expect([repaired.code, repaired.out]).toEqual([
    1,
    expect.stringMatching(/cannot be read from the disk .*: fetched again/),
  ]);
  expect(readFileSync(data).equals(right)).toBe(true);
  expect(await node.peel(['fsck'])).toMatchObject({ code: 0 });
});
