// What `peel inspect` says of the registry it asked, and how the environment leads it there.
import { mkdirSync, writeFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TestAuthority } from '../support/certificates.ts';
import type { FaultyRegistry } from '../support/faulty-registry.ts';
import { startFaultyRegistry } from '../support/faulty-registry.ts';
import { makeFixture } from '../support/fixtures.ts';
import { PeelNode } from '../support/peel-node.ts';
import { layersOf, TestRegistry } from '../support/test-registry.ts';

const node = new PeelNode();
let registry: TestRegistry;
let limited: FaultyRegistry;
let remaining = 76;

beforeAll(async () => {
  registry = await TestRegistry.start();
  await mkdir(path.join(node.dir, 'tars'), { recursive: true });
  const tars = await makeFixture('zoo', path.join(node.dir, 'tars'));
  await registry.push('app', layersOf(tars.slice(0, 1)));
  limited = await startFaultyRegistry(`http://${registry.front.host}`, (request, response) => {
    if (!request.url?.includes('/manifests/')) return false;
    response.setHeader('ratelimit-limit', '100;w=21600');
    response.setHeader('ratelimit-remaining', `${remaining};w=21600`);
    response.setHeader('docker-ratelimit-source', '192.0.2.1');
    return false;
  });
});
afterAll(async () => {
  await limited.close();
  await registry.close();
  await node.close();
});

describe('inspect', () => {
  it('--json has the rate limit that the registry told', async () => {
    remaining = 76;
    const image = await node.json<{ rateLimit?: unknown }>(['inspect', `${limited.host}/app`]);
    expect(image.rateLimit).toEqual({ limit: 100, remaining: 76, windowSeconds: 21_600, source: '192.0.2.1' });
  });

  it('says how many pulls are left when they are few', async () => {
    remaining = 9;
    expect(await node.ok(['inspect', `${limited.host}/app`])).toContain('Pulls:     9 of 100 left per 6 h\n');
  });

  it('goes by hosts.toml: a mirror over TLS with an authority of its own', async () => {
    const authority = new TestAuthority(node.dir);
    const mirror = await startFaultyRegistry(
      `http://${registry.front.host}`,
      undefined,
      authority.issue('mirror').pems,
    );
    try {
      const certs = path.join(node.dir, 'certs');
      mkdirSync(path.join(certs, 'registry.invalid'), { recursive: true });
      const text = `[host."${mirror.url}"]\nca = "${authority.caFile}"\n`;
      writeFileSync(path.join(certs, 'registry.invalid', 'hosts.toml'), text);
      await node.ok(['ls', 'registry.invalid/app', '/'], { env: { PEEL_CERTS_DIR: certs } });
      expect(mirror.requests.every((request) => request.includes('ns=registry.invalid'))).toBe(true);
      expect(mirror.requests.some((request) => request.includes('/blobs/'))).toBe(true);
      writeFileSync(path.join(certs, 'registry.invalid', 'hosts.toml'), '\n[host."x"]\nca = 5\n');
      const broken = await node.peel(['inspect', 'registry.invalid/app'], { env: { PEEL_CERTS_DIR: certs } });
      expect(broken.code).toBe(1);
      expect(broken.err).toContain('hosts.toml: host."x".ca: expected a text or a list of texts');
    } finally {
      await mirror.close();
    }
  });
});
