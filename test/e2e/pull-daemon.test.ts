// `peel pull` where a daemon answers: the daemon pulls, and it is the person at the shell as whom it does.
import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import type { PulledImage } from '../../src/snapshotter/pull/pull-to-containerd.ts';
import { listenUnix } from '../../src/util/listen-unix.ts';
import type { PushedImage } from '../support/container-image.ts';
import { namespaceState } from '../support/containerd-state.ts';
import { canMount } from '../support/peel-node.ts';
import { type RunOptions, type RunResult, peelMain, run } from '../support/run.ts';
import { SnapshotterWorld } from '../support/snapshotter-world.ts';
import { askForTokens } from '../support/token-front.ts';

const [user, password] = ['ann', `pass-${randomBytes(6).toString('hex')}`];

describe.skipIf(!canMount)('peel pull with a daemon', () => {
  let world: SnapshotterWorld;
  let lazy: PushedImage;
  let whole: PushedImage;

  beforeAll(async () => {
    world = await SnapshotterWorld.start();
    lazy = await world.image('lazy', [[{ name: 'name', data: 'lazy' }]]);
    whole = await world.image('whole', [[{ name: 'name', data: randomBytes(1 << 20) }]], { indexed: false });
  });
  beforeEach(async () => {
    world.explainFailure();
    for (const { reference } of [lazy, whole])
      await world.containerd.tryCtr('default', ['images', 'rm', '--sync', reference]);
  });
  afterAll(async () => {
    const { log } = world.daemon;
    expect(await world.close()).toEqual([]);
    expect(log).not.toContain(password);
  });

  const pull = async (args: readonly string[], options: RunOptions = {}): Promise<RunResult> =>
    await world.daemon.peel(['pull', '--address', world.containerd.socket, '--namespace', 'default', ...args], options);
  const pulledByDaemon = () => world.daemon.log.split('"image was pulled"').length - 1;
  const state = () => namespaceState(world.containerd, 'default', 'peel');

  it('has the daemon pull, and says what it would say without one', async () => {
    const before = pulledByDaemon();
    const byDaemon = await pull([lazy.reference, '--json']);
    expect(byDaemon).toMatchObject({ code: 0, err: '' });
    expect(pulledByDaemon()).toBe(before + 1);
    expect((await state()).leases).toEqual({});
    await world.containerd.tryCtr('default', ['images', 'rm', '--sync', lazy.reference]);
    // Who wants to see what is logged has a process of his own.
    const alone = await pull([lazy.reference, '--json', '--log-level', 'fatal']);
    expect(pulledByDaemon()).toBe(before + 1);
    expect(JSON.parse(byDaemon.out)).toEqual(JSON.parse(alone.out));
    const { layers } = JSON.parse(byDaemon.out) as PulledImage;
    expect(layers.map(({ how }) => how)).toEqual(['lazy', 'lazy']);
    const { out } = await pull([lazy.reference]);
    expect(out).toMatch(/^LAYER +HOW +SIZE +FETCHED\n[^]*: sha256:[0-9a-f]{64}; 2 present, 0 B fetched\n$/);
  });

  it('says what is wrong as it would without a daemon', async () => {
    const wrong = [
      [world.registry.reference('none')],
      [lazy.reference, '--snapshotter', 'unknown'],
      [lazy.reference, '--ca-file', path.join(world.daemon.dir, 'no.pem')],
      [lazy.reference, '--json', '--address', path.join(world.daemon.dir, 'no.sock')],
    ];
    for (const args of wrong) {
      const [byDaemon, alone] = await Promise.all([pull(args), pull([...args, '--log-level', 'fatal'])]);
      const { code, out, err } = alone;
      expect(byDaemon).toMatchObject({ code, out, err });
      expect({ code, said: err !== '' }).toEqual({ code: 1, said: true });
    }
  });

  it('reaches registries as the variables of whoever pulls say', async () => {
    const { front } = world.registry;
    const certs = path.join(world.daemon.dir, 'mine');
    mkdirSync(path.join(certs, 'elsewhere.test'), { recursive: true });
    writeFileSync(path.join(certs, 'elsewhere.test', 'hosts.toml'), `server = "http://${front.host}"\n`);
    const reference = 'elsewhere.test/lazy:latest';
    const before = pulledByDaemon();
    // Relative to where the command runs.
    const mine = { cwd: world.daemon.dir, env: { PEEL_CERTS_DIR: 'mine' } };
    expect(await pull([reference], mine)).toMatchObject({ code: 0 });
    expect(pulledByDaemon()).toBe(before + 1);
    await world.containerd.tryCtr('default', ['images', 'rm', '--sync', reference]);
  });

  it('asks for the credentials of whoever pulls when the registry wants some', async () => {
    onTestFinished(askForTokens(world.registry.front, user, password));
    const before = pulledByDaemon();
    expect((await pull([lazy.reference])).err).toMatch(/^peel: .*(denied|authentication|credentials|log in)/i);
    const dir = path.join(world.daemon.dir, 'hers');
    mkdirSync(path.join(dir, 'bin'), { recursive: true });
    // A helper that needs the environment of whoever pulls.
    const helper = path.join(dir, 'bin', 'docker-credential-hers');
    const answer = `{"ServerURL":"x","Username":"${user}","Secret":"'"$HER_SECRET"'"}`;
    writeFileSync(helper, `#!/bin/sh\necho asked >>${dir}/asked\nprintf '${answer}'\n`, { mode: 0o755 });
    writeFileSync(path.join(dir, 'config.json'), JSON.stringify({ credsStore: 'hers' }));
    const PATH = `${path.dirname(helper)}:${process.env['PATH']}`;
    const hers = { env: { DOCKER_CONFIG: dir, PATH, HER_SECRET: password } };
    expect(await pull([lazy.reference], hers)).toMatchObject({ code: 0 });
    expect(pulledByDaemon()).toBe(before + 1);
    expect(readFileSync(path.join(dir, 'asked'), 'utf8')).toMatch(/^(asked\n)+$/);
    // A helper that fails ends the pull with its reason.
    writeFileSync(helper, '#!/bin/sh\nexit 3\n');
    const failed = await pull([world.registry.reference('lazy', 'other')], hers);
    expect(failed).toMatchObject({ code: 1 });
    expect(failed.err).toContain('docker-credential-hers ended with status 3');
  });

  it('keeps the user of --user for what containers read', async () => {
    const { reference } = lazy;
    const before = pulledByDaemon();
    const end = askForTokens(world.registry.front, user, password);
    onTestFinished(end);
    expect(await pull([reference, '--user', `${user}:wrong`])).toMatchObject({ code: 1 });
    const { layers } = JSON.parse(
      (await pull([reference, '--json', '--user', `${user}:${password}`])).out,
    ) as PulledImage;
    expect(layers.map(({ how }) => how)).toEqual(['lazy', 'lazy']);
    expect(pulledByDaemon()).toBe(before + 1);
    expect((await world.containerd.run(reference, ['cat', '/name'])).out).toBe('lazy');
  });

  /** Resolves when the layer is asked for, which is not answered until the test ends. */
  function neverAnswered(layer: string): Promise<void> {
    return new Promise((resolve) => {
      const stop = world.registry.front.interfere(
        ({ url }) => url?.includes(layer) === true,
        () => resolve(),
      );
      onTestFinished(stop);
    });
  }

  it.each(['SIGINT', 'SIGKILL'] as const)('leaves nothing in containerd after %s', async (signal) => {
    const before = pulledByDaemon();
    const layer = whole.layers[1]?.descriptor.digest ?? '';
    const reached = neverAnswered(layer);
    let leased = false;
    const ended = await pull([whole.reference], {
      onStart: (child) =>
        void reached.then(async () => {
          leased = Object.keys((await state()).leases).length === 1;
          child.kill(signal);
        }),
    });
    expect(ended).toMatchObject(signal === 'SIGINT' ? { code: 130, err: 'peel: interrupted\n' } : { signal });
    expect(leased).toBe(true);
    const isLeased = async () => Object.keys((await state()).leases).length > 0;
    // Who was killed cannot wait for it.
    if (signal === 'SIGKILL') for (let tries = 0; tries < 100 && (await isLeased()); tries += 1) await delay(50);
    const { leases, images } = await state();
    expect({ leases, images }).toEqual({ leases: {}, images: {} });
    expect(pulledByDaemon()).toBe(before);
  });

  it.each([
    ['does not know what is asked', 404, 'ERR_NOT_FOUND'],
    ['knows another form of it', 400, 'ERR_DAEMON_REQUEST'],
  ])('pulls by itself when the daemon %s', async (_, status, code) => {
    const dir = path.join(world.daemon.dir, `other-${status}`);
    mkdirSync(dir, { mode: 0o700 });
    const asked: string[] = [];
    const other = createServer(({ url }, response) => {
      asked.push(url ?? '');
      if (url === '/v1/version') response.end(JSON.stringify({ version: '1', pid: 1, root: world.daemon.root }));
      else response.writeHead(status).end(JSON.stringify({ error: { code, message: 'no' } }));
    });
    await listenUnix(other, { path: path.join(dir, 'control.sock') });
    onTestFinished(() => void other.close());
    const before = pulledByDaemon();
    expect(await pull([lazy.reference], { env: { PEEL_RUN_DIR: dir } })).toMatchObject({ code: 0, err: '' });
    expect(asked).toEqual(['/v1/version', '/v1/pulls']);
    expect(pulledByDaemon()).toBe(before);
  });

  it('pulls by itself where files or hosts are others than those of the daemon', async () => {
    const before = pulledByDaemon();
    for (const other of ['--mount', '--net']) {
      const args = ['pull', '--address', world.containerd.socket, lazy.reference];
      const command = [other, process.execPath, peelMain, ...args];
      const { code, err } = await run('unshare', command, { env: world.daemon.env });
      // Another network has no registry.
      expect({ code, err }).toMatchObject(other === '--mount' ? { code: 0, err: '' } : { code: 1 });
    }
    expect(pulledByDaemon()).toBe(before);
  });

  it('says so when the daemon dies meanwhile', async () => {
    const layer = whole.layers[1]?.descriptor.digest ?? '';
    const reached = neverAnswered(layer);
    const pulling = pull([whole.reference]);
    await reached;
    await world.daemon.stop('SIGKILL');
    expect(await pulling).toMatchObject({
      code: 1,
      err: 'peel: the daemon ended before the image was pulled (see peel logs)\n',
    });
    await world.daemon.start();
    await world.reconnected();
  });
});
