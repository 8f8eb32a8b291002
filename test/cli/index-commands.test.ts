// What the `index` commands say to a person and to a program.
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { makeFixture } from '../support/fixtures.ts';
import { buildImage, writeLayout } from '../support/image-builder.ts';
import { PeelNode } from '../support/peel-node.ts';

const node = new PeelNode();
const image = `oci:${node.dir}/layout:all`;

beforeAll(async () => {
  const tars = await makeFixture('zoo', path.join(node.dir, 'tars'));
  const sources = tars.slice(0, 2).map((tar) => ({ tar, compression: 'gzip' as const }));
  await writeLayout(path.join(node.dir, 'layout'), 'all', await buildImage(path.join(node.dir, 'blobs'), sources));
});
afterAll(() => node.close());

const digest = 'sha256:[0-9a-f]{64}';
const short = 'sha256:[0-9a-f]{12}';

function lines(text: string): string[] {
  return text.trimEnd().split('\n');
}

function expectLines(text: string, patterns: readonly string[]): void {
  expect(lines(text)).toEqual(patterns.map((pattern) => expect.stringMatching(new RegExp(`^${pattern}\\s*$`))));
}

describe('peel index', () => {
  it('says what it made of each layer, what is known of an image, and what it forgot', async () => {
    const sizes = ['--min-layer-size', '20000', '--peel-span-size', '64KiB'];
    expectLines(await node.ok(['index', 'create', image, '--push', ...sizes]), [
      `linux/\\w+: peel index ${digest}, pushed`,
      `linux/\\w+: SOCI index ${digest}, pushed`,
      'LAYER +SIZE +PEEL INDEX +SOCI INDEX',
      `${short} +[0-9.]+ MiB +[0-9.]+ KiB +[0-9.]+ KiB`,
      `${short} +[0-9.]+ KiB +none: smaller than 20 KiB +none: smaller than 20 KiB`,
    ]);
    expectLines(await node.ok(['index', 'ls', image]), [
      'IMAGE +INDEX +FORMAT +FROM',
      `${digest} +${digest} +peel +registry`,
      `${digest} +${digest} +SOCI v1 +registry`,
    ]);
    expectLines(await node.ok(['index', 'show', image]), [
      `Index: +${digest} \\(peel, made on this node\\)`,
      `Image: +${digest}`,
      'Made by: peel [0-9.]+',
      '',
      'LAYER +TABLE +SIZE +WINDOWS +SPAN +SPANS +ENTRIES',
      `${short} +${short} +[0-9.]+ KiB +[0-9.]+ KiB +64 KiB +\\d+ +\\d+`,
      '',
      `Index: +${digest} \\(SOCI v1, made on this node\\)`,
      `Image: +${digest}`,
      'Made by: peel [0-9.]+',
      '',
      'LAYER +ZTOC +SIZE +SPAN +SPANS +ENTRIES',
      `${short} +${short} +[0-9.]+ KiB +4.0 MiB +\\d+ +\\d+`,
    ]);
    expectLines(await node.ok(['index', 'rm', image]), [`removed ${digest}`, `removed ${digest}`]);
    const single = ['index', 'create', image, '--format', 'peel', '--min-layer-size', '0'];
    const reports = await node.json<{ layers: unknown[]; pushed: boolean }[]>(single);
    expect(reports).toMatchObject([{ pushed: false, indexes: { peel: expect.any(String) as string } }]);
    expect(reports[0]?.layers[1]).toEqual({
      layer: expect.stringMatching(digest) as string,
      size: expect.any(Number) as number,
      peel: { table: expect.stringMatching(digest) as string, tableSize: expect.any(Number) as number },
    });
  });
});
