// `peel registry serve` and `peel registry gc` as processes: what each option does to a client.
import type { ChildProcess } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { hashSync } from 'bcryptjs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { DirRegistry } from '../../src/registry/dir-registry.ts';
import { RemoteRegistry } from '../../src/registry/remote-registry.ts';
import { TestAuthority } from '../support/certificates.ts';
import { PeelNode } from '../support/peel-node.ts';
import { pushImage } from '../support/registry-content.ts';
import { peelMain, start, stop } from '../support/run.ts';

const node = new PeelNode();
const layout = path.join(node.dir, 'layout');
const image = `oci:${layout}:v1`;

/** A server over a new store, until the test ends. */
async function serve(
  flags: readonly string[],
  store?: string,
): Promise<{ host: string; child: ChildProcess; store: string; lines: string }> {
  const dir = store ?? (await node.newDir());
  const args = [peelMain, 'registry', 'serve', '--root', dir, '--listen', '127.0.0.1:0', ...flags];
  const { child, line } = await start(process.execPath, args, /^serving /, { env: node.env });
  return { host: line.replace(/^.*:\/\//, ''), child, store: dir, lines: line };
}

beforeAll(async () => {
  const { LayoutRegistry } = await import('../../src/registry/layout-registry.ts');
  await pushImage(new LayoutRegistry(layout), '', 'v1');
});
afterAll(() => node.close());

describe('peel registry serve', () => {
  it('caches another registry, below a prefix, and answers without it', async () => {
    const upstream = await serve([]);
    const { digest } = await node.json<{ digest: string }>(['copy', image, `${upstream.host}/team/app:v1`]);
    const cache = await serve(['--pull-through', `${upstream.host}/team`]);
    const first = await node.json(['copy', `${cache.host}/app:v1`, `oci:${await node.newDir()}`]);
    expect(first).toMatchObject({ digest });
    await stop(upstream.child);
    expect(await node.json(['copy', `${cache.host}/app:v1`, `oci:${await node.newDir()}`])).toMatchObject({ digest });
    expect(await node.peel(['copy', image, `${cache.host}/app:v2`])).toMatchObject({ code: 1 });
  });

  it('asks the other registry as the user that is named', async () => {
    const passwords = path.join(node.dir, 'upstream-passwords');
    writeFileSync(passwords, `ann:${hashSync('se:cret', 4)}\n`);
    const upstream = await serve(['--htpasswd', passwords]);
    await node.ok(['copy', image, `${upstream.host}/app:v1`, '--user', 'ann:se:cret']);
    const cache = await serve(['--pull-through', upstream.host, '--user', 'ann:se:cret']);
    expect(await node.ok(['copy', `${cache.host}/app:v1`, `oci:${await node.newDir()}`])).toContain('2 blobs copied');
  });

  it('speaks TLS and asks for passwords', async () => {
    const authority = new TestAuthority(await node.newDir());
    const { certFile, keyFile } = authority.issue('server');
    const passwords = path.join(node.dir, 'passwords');
    writeFileSync(passwords, `ann:${hashSync('se:cret', 4)}\n`);
    const { host, lines } = await serve(['--tls-cert', certFile, '--tls-key', keyFile, '--htpasswd', passwords]);
    expect(lines).toContain(`https://${host}`);
    const copy = ['copy', image, `${host}/app:v1`];
    const ca = ['--ca-file', authority.caFile];
    expect(await node.peel([...copy, '--user', 'ann:se:cret'])).toMatchObject({ code: 1 });
    expect(await node.peel([...copy, ...ca])).toMatchObject({ code: 1 });
    await node.ok([...copy, ...ca, '--user', 'ann:se:cret']);
    await node.ok([...copy, '--dest-insecure', '--dest-user', 'ann', '--password-stdin'], { input: 'se:cret' });
    const config = { DOCKER_CONFIG: await node.newDir() };
    const login = ['login', host, '-u', 'ann', '--password-stdin'];
    expect(await node.peel(login, { input: 'se:cret', env: config })).toMatchObject({ code: 1 });
    expect(await node.peel([...login, ...ca], { input: 'wrong', env: config })).toMatchObject({ code: 1 });
    await node.ok([...login, ...ca], { input: 'se:cret', env: config });
    const archive = `oci-archive:${await node.newDir()}/a.tar`;
    await node.ok(['copy', `${host}/app:v1`, archive, '--insecure'], { env: config });
  });

  it('refuses changes when it is read-only', async () => {
    const { host, store, child } = await serve([]);
    await node.ok(['copy', image, `${host}/app:v1`]);
    await stop(child);
    const frozen = await serve(['--read-only'], store);
    expect(await node.peel(['copy', image, `${frozen.host}/app:v2`])).toMatchObject({
      code: 1,
      err: expect.stringContaining('read-only') as string,
    });
    expect(await node.ok(['copy', `${frozen.host}/app:v1`, `oci:${await node.newDir()}`])).toContain('2 blobs copied');
  });

  it('keeps what a tag names with --immutable-tags', async () => {
    const { host, store } = await serve(['--immutable-tags']);
    await node.ok(['copy', image, `${host}/app:v1`]);
    await node.ok(['copy', image, `${host}/app:v1`]);
    const other = new RemoteRegistry({ host });
    await expect(pushImage(other, 'app', 'v1')).rejects.toMatchObject({ code: 'DENIED' });
    await pushImage(other, 'app', 'v2');
    await other.close();
    const kept = await new DirRegistry(store).resolveTag('app', 'v1');
    expect(readFileSync(path.join(layout, 'index.json'), 'utf8')).toContain(kept.digest);
  });

  it('writes down every request', async () => {
    const file = path.join(await node.newDir(), 'access.log');
    const { host, child } = await serve(['--access-log', file]);
    await fetch(`http://${host}/v2/app/tags/list?n=2`);
    await stop(child);
    expect(JSON.parse(readFileSync(file, 'utf8'))).toMatchObject({
      time: expect.stringMatching(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/) as string,
      method: 'GET',
      url: '/v2/app/tags/list?n=2',
      status: 404,
    });
  });

  it('counts for Prometheus and ends cleanly', async () => {
    const args = ['registry', 'serve', '--root', await node.newDir(), '--listen', '127.0.0.1:0', '--json'];
    const flags = [peelMain, ...args, '--metrics', '127.0.0.1:0'];
    const { child, line } = await start(process.execPath, flags, /metricsUrl/, { env: node.env });
    const url = /"(http:[^"]+\/metrics)"/.exec(line)?.[1] ?? '';
    expect(await (await fetch(url)).text()).toContain('# TYPE');
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGTERM');
    expect(await ended).toBe(0);
  });

  it('goes on when its log cannot be written', async () => {
    const { host, child } = await serve(['--access-log', '/dev/full']);
    const said = new Promise((resolve) => child.stderr?.once('data', (chunk) => resolve(String(chunk))));
    for (let i = 0; i < 3; i += 1) expect((await fetch(`http://${host}/v2/`)).status).toBe(200);
    expect(await said).toMatch(/lines are missing in \/dev\/full: ENOSPC/);
  });

  it.each([
    [['--tls-cert', 'x'], 2, /go together/],
    [['--user', 'ann:x'], 2, /are for --pull-through/],
    [['--metrics', 'nowhere'], 2, /--metrics nowhere: expected HOST:PORT/],
    [['--pull-through', 'a b'], 2, /not a registry host/],
    [['--pull-through', 'host:5000/UPPER'], 2, /no prefix/],
    [['--htpasswd', '/nonexistent/passwords'], 1, /\/nonexistent\/passwords/],
  ])('says what is wrong with %s', async (flags, code, message) => {
    const result = await node.peel([
      'registry',
      'serve',
      '--root',
      await node.newDir(),
      '--listen',
      '127.0.0.1:0',
      ...flags,
    ]);
    expect([result.code, result.err]).toEqual([code, expect.stringMatching(message) as string]);
  });
});

describe('peel registry gc', () => {
  it('removes what nothing needs, after saying it, while the registry is served', async () => {
    const { host, store } = await serve([]);
    await node.ok(['copy', image, `${host}/app:v1`]);
    await node.ok(['copy', image, `${host}/app:v2`]);
    const other = new RemoteRegistry({ host });
    const { manifest, layer } = await pushImage(other, 'app', 'gone');
    await other.deleteTag('app', 'gone');
    const gc = ['registry', 'gc', '--root', store, '--untagged', '--older-than', '0s'];
    expect(await node.ok(['registry', 'gc', '--root', store, '--untagged'])).toContain('0 B freed');
    expect(await node.ok([...gc, '--dry-run'])).toMatch(/^manifests +1 .*would be freed$/ms);
    expect((await other.resolveManifest('app', manifest.descriptor.digest)).size).toBeGreaterThan(0);
    expect(await node.json(gc)).toMatchObject({ dryRun: false, manifests: { count: 1 }, blobs: { count: 2 } });
    await expect(other.resolveBlob('app', layer.descriptor.digest)).rejects.toMatchObject({ code: 'BLOB_UNKNOWN' });
    await other.close();
    expect(await node.ok(['copy', `${host}/app:v2`, `oci:${await node.newDir()}`])).toContain('2 blobs copied');
  });

  it('wants a registry that is there, and a duration that is one', async () => {
    expect(await node.peel(['registry', 'gc', '--root', path.join(node.dir, 'none')])).toMatchObject({ code: 1 });
    const odd = await node.peel(['registry', 'gc', '--older-than', 'soon']);
    expect(odd).toMatchObject({ code: 2, err: expect.stringContaining('90s, 15m') as string });
  });
});
