// The control API as anybody may speak to it: errors, logs that are followed, a configuration that changes, metrics.
import { spawn } from 'node:child_process';
import { request } from 'node:http';
import { statSync } from 'node:fs';
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { setTimeout as delay } from 'node:timers/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { DaemonProcess } from '../support/daemon-process.ts';
import { makeFixture } from '../support/fixtures.ts';
import { canMount, PeelNode } from '../support/peel-node.ts';
import { peelMain, runOk, stop } from '../support/run.ts';
import { TestRegistry } from '../support/test-registry.ts';

const node = new PeelNode();
let daemon: DaemonProcess;
beforeAll(async () => {
  daemon = await DaemonProcess.start(node, { config: `metrics.address = "127.0.0.1:0"\nread.deadline = "5s"\n` });
});
afterAll(() => node.close());

interface Answer {
  readonly status: number;
  readonly body: string;
}

async function ask(method: string, path: string, body?: string | Buffer): Promise<Answer> {
  return await new Promise<Answer>((resolve, reject) => {
    const asked = request({ socketPath: daemon.socket, method, path }, (response) => {
      text(response).then((found) => resolve({ status: response.statusCode ?? 0, body: found }), reject);
    });
    asked.on('error', reject).end(body);
  });
}

const dir = '/tmp/peel-none';
/** By somebody in another place. */
const pull = {
  reference: 'a',
  address: '/tmp/peel-none',
  namespace: 'default',
  snapshotter: 'peel',
  hasCredentials: false,
  variables: {},
  place: { uid: 0, files: 'none', network: 'none' },
};

describe('the control API', () => {
  it('is on a socket for its owner alone', () => {
    expect(statSync(daemon.socket).mode & 0o777).toBe(0o600);
  });

  it.each<[string, string, string | undefined, number, string, RegExp]>([
    ['GET', '/v1/nothing', undefined, 404, 'ERR_NOT_FOUND', /no \/v1\/nothing/],
    ['GET', '/v1/__proto__', undefined, 404, 'ERR_NOT_FOUND', /no/],
    ['GET', '//', undefined, 404, 'ERR_NOT_FOUND', /no \/\//],
    ['DELETE', '/v1/status', undefined, 405, 'ERR_METHOD', /takes GET/],
    ['GET', '/v1/mounts', undefined, 405, 'ERR_METHOD', /takes POST/],
    ['POST', '/v1/mounts', '{', 400, 'ERR_DAEMON_REQUEST', /not JSON/],
    ['POST', '/v1/mounts', '', 400, 'ERR_DAEMON_REQUEST', /not JSON/],
    ['POST', '/v1/mounts', '[]', 400, 'ERR_DAEMON_REQUEST', /body: .*object/],
    ['GET', '/v1/pulls', undefined, 405, 'ERR_METHOD', /takes POST/],
    ['POST', '/v1/pulls', JSON.stringify({ ...pull, reference: 'oci:/a' }), 400, 'ERR_DAEMON_REQUEST', /reference: /],
    ['POST', '/v1/pulls', JSON.stringify({ ...pull, namespace: '../a' }), 400, 'ERR_DAEMON_REQUEST', /namespace: /],
    ['POST', '/v1/pulls', JSON.stringify({ ...pull, address: 'a' }), 400, 'ERR_DAEMON_REQUEST', /address: .*absolute/],
    ['POST', '/v1/pulls', JSON.stringify({ ...pull, index: 'latest' }), 400, 'ERR_DAEMON_REQUEST', /index: /],
    ['POST', '/v1/pulls', JSON.stringify({ ...pull, user: { username: 'a' } }), 400, 'ERR_DAEMON_REQUEST', /user: /],
    ['POST', '/v1/pulls', JSON.stringify({ ...pull, variables: { HOME: '/' } }), 400, 'ERR_DAEMON_REQUEST', /HOME/],
    ['POST', '/v1/pulls', JSON.stringify(pull), 409, 'ERR_DAEMON_ELSEWHERE', /other files/],
    ['POST', '/v1/pulls/stop', JSON.stringify({ pull: 'x' }), 400, 'ERR_DAEMON_REQUEST', /no such pull/],
    ['POST', '/v1/pulls/answers', JSON.stringify({ pull: 'x', ask: 1 }), 400, 'ERR_DAEMON_REQUEST', /no such pull/],
    ['POST', '/v1/mounts', JSON.stringify({ dir }), 400, 'ERR_DAEMON_REQUEST', /reference: /],
    [
      'POST',
      '/v1/mounts',
      JSON.stringify({ reference: 'UP', dir }),
      400,
      'ERR_DAEMON_REQUEST',
      /not an image reference/,
    ],
    ['POST', '/v1/mounts', JSON.stringify({ reference: 'oci:here', dir }), 400, 'ERR_DAEMON_REQUEST', /absolute/],
    [
      'POST',
      '/v1/mounts',
      JSON.stringify({ reference: 'a', dir: 'mnt' }),
      400,
      'ERR_DAEMON_REQUEST',
      /dir: .*absolute/,
    ],
    ['POST', '/v1/mounts', JSON.stringify({ reference: 'a', dir: '/a\0b' }), 400, 'ERR_DAEMON_REQUEST', /dir: /],
    ['POST', '/v1/mounts', JSON.stringify({ reference: 'a', dir, much: 1 }), 400, 'ERR_DAEMON_REQUEST', /much/],
    ['POST', '/v1/mounts', JSON.stringify({ reference: 'a', dir, index: 'no' }), 400, 'ERR_DAEMON_REQUEST', /index: /],
    [
      'POST',
      '/v1/mounts',
      JSON.stringify({ reference: 'a', dir, platform: 'x' }),
      400,
      'ERR_DAEMON_REQUEST',
      /platform: /,
    ],
    ['POST', '/v1/mounts', JSON.stringify({ reference: 'a', dir, upper: '/u' }), 400, 'ERR_DAEMON_REQUEST', /writable/],
    ['POST', '/v1/mounts', `"${'x'.repeat(70_000)}"`, 400, 'ERR_DAEMON_REQUEST', /more than 65536 bytes/],
    ['POST', '/v1/unmount', JSON.stringify({ dir: '/tmp' }), 404, 'ERR_MOUNT_UNKNOWN', /is not mounted/],
    ['POST', '/v1/unmount', JSON.stringify({ dir }), 409, 'ERR_MOUNT_TARGET', /does not exist/],
    ['GET', '/v1/logs?tail=-1', undefined, 400, 'ERR_DAEMON_REQUEST', /tail: /],
    ['GET', '/v1/logs?follow=yes', undefined, 400, 'ERR_DAEMON_REQUEST', /follow: /],
    [
      'POST',
      '/v1/credentials',
      '{"image":"a","username":"x"}',
      400,
      'ERR_DAEMON_REQUEST',
      /expected username and password/,
    ],
    ['POST', '/v1/credentials', '{"image":"a","password":7}', 400, 'ERR_DAEMON_REQUEST', /^password: [^7]*$/],
  ])('answers %s %s %.60s with %i', async (method, path, body, status, code, message) => {
    const answer = await ask(method, path, body);
    const { error } = JSON.parse(answer.body) as { error: { code: string; message: string } };
    expect([answer.status, error.code]).toEqual([status, code]);
    expect(error.message).toMatch(message);
  });

  it('outlives what is no HTTP, and clients that leave', async () => {
    for (const bytes of [
      '\0\0\0\0\n\n',
      'GET /v1/status HT',
      'POST /v1/mounts HTTP/1.1\r\ncontent-length: 9\r\n\r\n{',
    ]) {
      const socket = connect(daemon.socket);
      await new Promise((resolve) => socket.write(bytes, resolve));
      socket.destroy();
    }
    expect((await ask('GET', '/v1/version')).status).toBe(200);
  });

  it('tells a failed mount in the last line of its stream', async () => {
    const { status, body } = await ask(
      'POST',
      '/v1/mounts',
      JSON.stringify({ reference: 'oci:/nowhere:1', dir: '/tmp' }),
    );
    expect(status).toBe(200);
    expect(JSON.parse(body.trimEnd().split('\n').at(-1) ?? '')).toMatchObject({
      kind: 'failed',
      code: 'ERR_MOUNT_TARGET',
    });
  });

  it('has the log, and new lines as they come', async () => {
    const lines = (await ask('GET', '/v1/logs?tail=1000')).body.trimEnd().split('\n');
    expect(lines.map((line) => (JSON.parse(line) as { msg: string }).msg)).toContain('daemon serves');
    const leaving = new AbortController();
    const client = await daemon.client();
    const followed = client.logs({ tail: 0, follow: true }, { signal: leaving.signal });
    const first = followed.next();
    // When it follows is not told; a line that comes too early is only in the past.
    const again = async (): Promise<string> => {
      await client.reload();
      const { value } = await Promise.race([first, delay(50, { value: undefined })]);
      return value === undefined ? await again() : String(value);
    };
    expect(JSON.parse(await again())).toMatchObject({ level: 30, msg: 'configuration was read again' });
    leaving.abort();
    while ((await followed.next()).done !== true);
  });

  it('has it for people as well, until they have read enough', async () => {
    const child = spawn(process.execPath, [peelMain, 'logs', '--follow', '-n', '1000'], {
      env: { ...process.env, ...node.env },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    try {
      const ended = new Promise((resolve) => child.once('exit', resolve));
      const [first] = (await child.stdout.take(1).toArray()) as [Buffer];
      expect(first.toString()).toMatch(/^\d\d:\d\d:\d\d\.\d{3} info .*metrics are served {2}address=127/);
      child.kill('SIGINT');
      expect(await ended).toBe(0);
    } finally {
      await stop(child);
    }
  });

  it('takes a configuration over, and says what needs a restart', async () => {
    daemon.reconfigure('log.level = "warn"\nsnapshotter.mode = "defer"\ndownload.per_node = 3');
    const client = await daemon.client();
    expect(await client.reload()).toEqual({ restartNeeded: ['snapshotter.mode'] });
    expect((await client.status()).restartNeeded).toEqual(['snapshotter.mode']);
    expect(await node.ok(['status'])).toContain('count after a restart: snapshotter.mode');
    daemon.reconfigure('log.level = "warn"\nmuch = 1');
    await expect(client.reload()).rejects.toMatchObject({ message: expect.stringContaining('much') });
    expect((await client.status()).warnings).toEqual([expect.stringMatching(/not taken over: .*much/s)]);
    const before = daemon.log;
    daemon.reconfigure('log.level = "warn"\nmetrics.address = "192.0.2.1:9"');
    await expect(client.reload()).rejects.toMatchObject({ code: 'ERR_DAEMON_START' });
    daemon.reconfigure('log.level = "info"');
    expect(await client.reload()).toEqual({ restartNeeded: [] });
    expect(await client.status()).toMatchObject({ restartNeeded: [], warnings: [] });
    await daemon.said(/was read again[^]*EADDRNOTAVAIL[^]*was read again/);
    expect(daemon.log.slice(before.length).match(/"level":30/g)).toHaveLength(1);
  });
});

describe('metrics', () => {
  it('are counted, on the control socket and on a port that has nothing else', async () => {
    daemon.reconfigure('metrics.address = "127.0.0.1:0"');
    const client = await daemon.client();
    await client.reload();
    const address = /"address":"(127[^"]+)"[^\n]*\n[^\n]*$/.exec(daemon.log.trimEnd())?.[1] ?? '';
    const scraped = await fetch(`http://${address}/metrics`);
    expect(scraped.status).toBe(200);
    expect((await fetch(`http://${address}/v1/status`)).status).toBe(404);
    const { body } = await ask('GET', '/metrics');
    for (const [found, name] of [
      [await scraped.text(), 'peel_mounts{state="serving"} 0'],
      [body, 'peel_snapshot_prepares_total{code="no_index"} 0'],
      [body, 'peel_layers{serving="lazy"} 0'],
      [body, 'process_resident_memory_bytes'],
    ] as const)
      expect(found).toContain(name);
  });

  it('are on a unix socket where that is asked for', async () => {
    const path = join(node.dir, 'metrics.sock');
    daemon.reconfigure(`metrics.address = "unix:${path}"`);
    await (await daemon.client()).reload();
    expect(await runOk('curl', ['-sS', '--unix-socket', path, 'http://peel/metrics'])).toContain(
      'peel_fuse_errors_total 0',
    );
  });

  it.skipIf(!canMount)('count what a mount reads', async () => {
    const registry = await TestRegistry.start();
    onTestFinished(() => registry.close());
    const [tar = ''] = await makeFixture('bulk', registry.work('bulk'), '2');
    await registry.push('bulk', [{ tar, compression: 'none' }]);
    const [image] = [registry.reference('bulk')];
    const dir = await daemon.mount(image);
    await runOk('sh', ['-c', 'cat "$0"/* "$0"/*/* >/dev/null 2>&1 || true', dir]);
    const { body } = await ask('GET', '/metrics');
    const valueOf = (name: string) =>
      Number(new RegExp(`^${name.replace(/[{}]/g, '\\$&')} (.*)$`, 'm').exec(body)?.[1]);
    expect(valueOf('peel_mounts{state="serving"}')).toBe(1);
    expect(valueOf('peel_fetched_bytes_total')).toBeGreaterThan(2 << 20);
    expect(valueOf('peel_cache_present_bytes')).toBeGreaterThan(2 << 20);
    await daemon.unmount(dir);
  });
});
