// Registries that give no ranges, break off or die in the middle of a layer.
import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { onTestFinished, describe, expect, it } from 'vitest';
import { readEnvironment } from '../../src/config/environment.ts';
import { answer, breaksAt, forBlob, ignoreRange } from '../support/faults.ts';
import { labLayer } from '../support/image-lab.ts';
import { RegistryFront } from '../support/registry-front.ts';
import { tarOf } from '../support/tar-members.ts';
import { UnpackLab } from '../support/unpack-lab.ts';

const chunk_size = 128 << 10;
const data = randomBytes(1_500_000);

async function world() {
  const lab = await UnpackLab.start();
  const made = labLayer(tarOf({ path: 'data', data }), 'gzip');
  const image = await lab.lab.push('1', [made]);
  return { lab, made, image };
}

describe.each(['layer', 'image'] as const)('a registry (%s)', (way) => {
  async function unpacked({ lab, image }: Awaited<ReturnType<typeof world>>, node = lab.node()): Promise<Buffer> {
    const opened = await node;
    const unpacker = await lab.unpacker(opened, { chunk_size });
    const dir =
      way === 'image'
        ? await lab.unpackImage(unpacker, opened, image)
        : await lab.take(unpacker, await lab.request(opened, image));
    return readFileSync(join(dir, 'data'));
  }

  it('without ranges sends all of it in one stream', async () => {
    const w = await world();
    w.lab.lab.front.interfere(forBlob(w.made.descriptor.digest), ignoreRange);
    w.lab.lab.front.forget();
    expect((await unpacked(w)).equals(data)).toBe(true);
    // What was sent before it was clear that there are none is all that was sent in vain.
    expect(w.lab.lab.front.seen(w.made.descriptor.digest).some(({ range }) => range === undefined)).toBe(true);
  });

  it('that breaks off is asked for the rest', async () => {
    const w = await world();
    let broken = 0;
    w.lab.lab.front.interfere(
      (request) => forBlob(w.made.descriptor.digest)(request) && broken++ < 2,
      breaksAt({ bytes: w.made.blob }, 700_000),
    );
    expect((await unpacked(w)).equals(data)).toBe(true);
    expect(broken).toBeGreaterThan(2);
  });

  it('that dies in the middle of a layer is replaced by the next one', async () => {
    const w = await world();
    const mirror = await RegistryFront.start(w.lab.lab.front.host);
    onTestFinished(() => mirror.close());
    const certs = w.lab.path('certs');
    mkdirSync(join(certs, w.lab.lab.front.host), { recursive: true });
    writeFileSync(
      join(certs, w.lab.lab.front.host, 'hosts.toml'),
      `[host."http://${mirror.host}"]\ncapabilities = ["pull", "resolve"]\n`,
    );
    let given = 0;
    mirror.interfere(forBlob(w.made.descriptor.digest), (_request, response, forward) => {
      given += 1;
      if (given <= 3) forward();
      else if (given === 4) breaksAt({ bytes: w.made.blob }, 450_000)(_request, response, forward, neverAsked);
      else answer(503)(_request, response, forward, neverAsked);
    });
    w.lab.lab.front.forget();
    const environment = { ...readEnvironment(), peelCertsDir: certs, peelRunDir: w.lab.path('run') };
    const found = await unpacked(w, w.lab.node({ environment }));
    expect(found.equals(data)).toBe(true);
    expect(mirror.bytes(w.made.descriptor.digest)).toBeGreaterThan(3 * chunk_size);
    expect(given).toBeGreaterThan(4);
  });
});

const neverAsked = () => Promise.reject(new Error('not asked'));
