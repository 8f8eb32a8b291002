// `peel record` and `peel profile` from dist/: a start that is recorded on one node and known to the next.
import { existsSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { memberLayer, shellLayer } from '../support/container-image.ts';
import { mountsBelow } from '../support/leftovers.ts';
import { canMount, PeelNode } from '../support/peel-node.ts';
import { layersOf, TestRegistry } from '../support/test-registry.ts';

const node = new PeelNode();
let registry: TestRegistry;
let image: string;

beforeAll(async () => {
  registry = await TestRegistry.start();
  image = registry.reference('app');
  const data = (name: string) => ({ name, data: Buffer.alloc(300_000, name) });
  const tars = [
    await shellLayer(registry.work('shell.tar')),
    await memberLayer(registry.work('data.tar'), [data('first'), data('second'), data('third')]),
  ];
  await registry.push('app', layersOf(tars, 'gzip'));
  const sizes = ['--format', 'peel', '--peel-span-size', '64KiB', '--min-layer-size', '0'];
  await node.ok(['index', 'create', image, '--push', ...sizes]);
});
afterAll(async () => {
  await node.close();
  await registry.close();
});

function expectNothingLeft(): void {
  expect(mountsBelow(node.dir)).toEqual([]);
  const records = path.join(node.root, 'records');
  expect(existsSync(records) ? readdirSync(records) : []).toEqual([]);
}

describe.skipIf(!canMount)('peel record', () => {
  it('runs a command with our streams, and ends with its exit code', async () => {
    const script = 'cat; echo $0 >&2; touch /made && exit 7';
    const done = await node.peel(['record', image, '--', '/usr/bin/sh', '-c', script, 'words here'], {
      input: 'hello',
    });
    expect([done.code, done.out]).toEqual([7, 'hello']);
    expect(done.err).toContain('words here\n');
    expectNothingLeft();
  });

  it('passes signals on, each of them', async () => {
    const script =
      'trap "echo again >&2; trap \'exit 9\' TERM" TERM; echo ready >&2; while :; do sleep 60 & wait; done';
    const answers: string[] = [];
    const done = await node.peel(['record', image, '--', '/usr/bin/sh', '-c', script], {
      onStart: (child) =>
        child.stderr?.on('data', (text: Buffer) => {
          answers.push(...(text.toString().match(/ready|again/g) ?? []));
          if (/ready|again/.test(text.toString())) child.kill('SIGTERM');
        }),
    });
    expect([done.code, answers]).toEqual([9, ['ready', 'again']]);
    expectNothingLeft();
  });

  it('says what cannot be run, and records nothing', async () => {
    const done = await node.peel(['record', image, '--', '/no/such/program']);
    expect([done.code, done.out]).toEqual([1, '']);
    expect(done.err).toMatch(/peel: runc could not start it: .*no such file/);
    expectNothingLeft();
  });
});
