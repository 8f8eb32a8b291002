// A registry that misbehaves: each fault has its message and exit code 1, nothing hangs, nothing stays half mounted; a fault
// that passes is ridden out.
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import {
  answer,
  body,
  closeEarly,
  everything,
  forBlob,
  forManifests,
  ignoreRange,
  otherRange,
} from '../support/faults.ts';
import { makeFixture } from '../support/fixtures.ts';
import type { BuiltImage } from '../support/image-builder.ts';
import { fileSystemAt, processesUsing } from '../support/leftovers.ts';
import { PeelNode, canMount } from '../support/peel-node.ts';
import type { Fault, FaultRule } from '../support/registry-front.ts';
import { run, runOk } from '../support/run.ts';
import { TestRegistry, layersOf } from '../support/test-registry.ts';

describe.skipIf(!canMount)('with a registry that misbehaves', () => {
  let registry: TestRegistry;
  let node: PeelNode;
  let image: BuiltImage;
  let sum: string;

  beforeAll(async () => {
    registry = await TestRegistry.start();
    const tars = await makeFixture('bulk', registry.work('bulk'), '12');
    image = await registry.push('bulk', layersOf(tars, 'gzip'));
    const indexer = new PeelNode();
    const sizes = ['--min-layer-size', '0', '--span-size', '1MiB'];
    await indexer.ok(['index', 'create', registry.reference('bulk'), '--push', ...sizes]);
    await indexer.close();
    sum = (await runOk('sh', ['-c', `tar -xOf ${tars[0]} bulk/0005 | sha256sum`])).slice(0, 64);
  });
  afterAll(() => registry.close());
  beforeEach(() => {
    node = new PeelNode();
  });
  afterEach(() => node.close());

  const failing: [string, FaultRule['match'], Fault, RegExp][] = [
    [
      '401',
      everything,
      answer(401, { 'www-authenticate': 'Basic realm="test"' }),
      /log ?in|credential|401|unauthorized/i,
    ],
    ['403', everything, answer(403), /403|denied|forbidden/i],
    ['404', forManifests, answer(404), /not found|no such|404|unknown/i],
    ['429 for ever', forManifests, answer(429, { 'retry-after': '0' }), /429|too many/i],
    ['500 for ever', forManifests, answer(500), /500|server/i],
    [
      'garbage in place of a manifest',
      forManifests,
      body(200, '{"schemaVersion": 2, "layers": [', { 'content-type': 'application/vnd.oci.image.manifest.v1+json' }),
      /manifest/i,
    ],
    [
      'a login page in place of a manifest',
      forManifests,
      body(200, '<html>Welcome</html>', { 'content-type': 'text/html' }),
      /manifest/i,
    ],
  ];
  it.each(failing)('refuses to mount after %s, saying so', async (_name, match, fault, message) => {
    const healed = registry.front.interfere(match, fault);
    try {
      const dir = await node.newDir();
      const result = await node.peel(['mount', registry.reference('bulk'), dir], { timeout: 50_000 });
      expect(result.code, result.err).toBe(1);
      expect(result.err).toMatch(message);
      expect(result.err).toContain(registry.front.host);
      expect(result.err).not.toMatch(/\n\s+at /);
      expect(fileSystemAt(dir)).toBeUndefined();
      expect(processesUsing(node.dir)).toEqual([]);
    } finally {
      healed();
    }
  });

  const passing: [string, Fault][] = [
    ['a 500', answer(500)],
    ['a 429 with Retry-After', answer(429, { 'retry-after': '1' })],
    ['an early close', closeEarly(1000)],
    ['200 with the whole blob', ignoreRange],
    ['another range than asked for', otherRange],
  ];
  it.each(passing)('reads the right bytes after %s', async (_name, fault) => {
    const dir = await node.mount(registry.reference('bulk'), 'auto', '--index', 'require');
    const match = forBlob(image.layers[0]?.descriptor.digest ?? '');
    const healed = registry.front.interfere(match, (...args) => {
      healed();
      fault(...args);
    });
    expect((await runOk('sha256sum', [join(dir, 'bulk/0005')])).slice(0, 64)).toBe(sum);
  });

  const lasting: [string, Fault][] = [
    ['403', answer(403)],
    ['200 with other bytes', body(200, 'not the blob')],
    ['another range than asked for', otherRange],
    ['bytes that fail the digest', zeros],
  ];
  it.each(lasting)(
    'answers EIO, never wrong bytes, to %s that lasts, and recovers',
    async (_name, fault) => {
      const dir = await node.mount(registry.reference('bulk'), 'auto', '--index', 'require');
      const match = forBlob(image.layers[0]?.descriptor.digest ?? '');
      const healed = registry.front.interfere(match, fault);
      const read = await run('cat', [join(dir, 'bulk/0005')], { timeout: 90_000 });
      healed();
      expect(read.code).toBe(1);
      expect(read.err).toContain('Input/output error');
      expect(read.out).toBe('');
      expect((await runOk('sha256sum', [join(dir, 'bulk/0005')])).slice(0, 64)).toBe(sum);
    },
    120_000,
  );
});

/** The right range, and nothing but zeros in it. */
function zeros(request: Parameters<Fault>[0], response: Parameters<Fault>[1]): void {
  const [, from = '0', to = '0'] = /bytes=(\d+)-(\d+)/.exec(request.headers.range ?? '') ?? [];
  const size = Number(to) - Number(from) + 1;
  response.writeHead(206, { 'content-length': size, 'content-range': `bytes ${from}-${to}/*` });
  response.end(Buffer.alloc(size));
}
