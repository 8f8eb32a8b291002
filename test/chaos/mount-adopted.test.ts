// Mounts of people go on when the daemon that serves them is replaced: what was asked of the one that is gone is answered by the next.
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it, onTestFailed, onTestFinished } from 'vitest';
import { ChecksumReader } from '../support/checksum-readers.ts';
import { DaemonProcess } from '../support/daemon-process.ts';
import { ImageLab, labLayer, sha256 } from '../support/image-lab.ts';
import type { LabImage } from '../support/image-lab.ts';
import { isFullScale } from '../support/fixtures.ts';
import { LoneKeeper } from '../support/lone-keeper.ts';
import { canMount, PeelNode } from '../support/peel-node.ts';
import { runOk } from '../support/run.ts';
import { tarOf } from '../support/tar-members.ts';

const head = randomBytes(100_001);
const tail = randomBytes(400_000);
const quiet = '[fill]\nenabled = false\n[read_ahead]\nenabled = false\n';

class Place {
  readonly node: PeelNode;
  readonly lab: ImageLab;
  readonly image: LabImage;
  readonly keeper: LoneKeeper;
  readonly config: string;
  daemon: DaemonProcess;

  private constructor(parts: Pick<Place, 'node' | 'lab' | 'image' | 'keeper' | 'config' | 'daemon'>) {
    ({ node: this.node, lab: this.lab, image: this.image, keeper: this.keeper, config: this.config } = parts);
    this.daemon = parts.daemon;
  }

  static async make(config = ''): Promise<Place> {
    const lab = await ImageLab.start();
    const members = [
      { path: 'head', data: head },
      { path: 'tail', data: tail },
    ] as const;
    const image = await lab.push('1', [labLayer(tarOf(...members)), labLayer(tarOf({ path: 'b', data: 'b' }))]);
    await lab.pushIndex(image, { spanSize: 64 << 10 });
    const node = new PeelNode();
    const configFile = join(node.dir, 'config.toml');
    const text = `root = "${node.root}"\nrun_dir = "${join(node.dir, 'run')}"\n${quiet}${config}`;
    writeFileSync(configFile, text);
    const keeper = await LoneKeeper.start(join(node.dir, 'run'), configFile, node.env);
    onTestFinished(async () => {
      keeper.kill();
      await node.close();
    });
    const daemon = await DaemonProcess.start(node, { config: text });
    return new Place({ node, lab, image, keeper, config: text, daemon });
  }

  async restart(signal: NodeJS.Signals, meanwhile: () => Promise<void> = async () => {}): Promise<void> {
    const log = this.daemon.log;
    onTestFailed(() => console.error(log, this.daemon.log));
    await this.daemon.end(signal);
    await meanwhile();
    this.daemon = await DaemonProcess.start(this.node, { config: this.config });
  }

  /** Requests for layer bytes wait from now on, until the returned function is called. */
  hold(): () => void {
    const held: (() => void)[] = [];
    const open = this.lab.front.interfere(
      ({ url }) => url?.includes('/blobs/') === true,
      (_request, _response, forward) => void held.push(forward),
    );
    return () => {
      open();
      for (const forward of held.splice(0)) forward();
    };
  }
}

/** What the kernel numbers the mount by: a new one has another number. */
const mountIds = (dir: string) =>
  readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .flatMap((line) => (line.split(' ')[4] === dir ? [line.split(' ')[0]] : []));

/** Reads in another process. */
const reading = async (path: string) => await output('sha256sum', [path]);

async function output(program: string, args: readonly string[]): Promise<string> {
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let out = '';
  child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (out += chunk.toString()));
  await once(child, 'close');
  return out;
}

const sumIn = (out: string) => `sha256:${out.slice(0, 64)}`;

async function until(isTrue: () => boolean | Promise<boolean>): Promise<void> {
  for (let i = 0; i < 500; i += 1) {
    if (await isTrue()) return;
    await delay(20);
  }
  throw new Error('it never came');
}

const cases = [
  { transport: 'kernel', writable: true, signal: 'SIGTERM' },
  { transport: 'native', writable: false, signal: 'SIGKILL' },
  ...(isFullScale()
    ? ([
        { transport: 'kernel', writable: false, signal: 'SIGKILL' },
        { transport: 'native', writable: true, signal: 'SIGTERM' },
      ] as const)
    : []),
] as const;

describe.skipIf(!canMount)('a mount of a daemon that is replaced', () => {
  it.each(cases)('goes on: $transport, writable: $writable, $signal', async ({ transport, writable, signal }) => {
    const place = await Place.make();
    const { lab, image, keeper } = place;
    const dir = await place.daemon.mount(image.reference, { transport, writable });
    expect(sumIn(await reading(join(dir, 'head')))).toBe(sha256(head));
    if (writable) writeFileSync(join(dir, 'made'), 'changes');
    const ids = mountIds(dir);
    const release = place.hold();
    lab.front.forget();
    const waiting = reading(join(dir, 'tail'));
    await until(() => lab.front.seen('/blobs/').length > 0);
    await place.restart(signal, async () => {
      lab.front.forget();
    });
    expect(mountIds(dir)).toEqual(ids);
    expect(await keeper.kept()).toEqual([
      'fuse',
      expect.stringMatching(/^listen-control-/),
      expect.stringMatching(/^listen-snapshotter-/),
    ]);
    // Nothing is asked of the registry but the bytes that somebody waits for.
    await until(() => lab.front.seen('/blobs/').length > 0);
    expect(lab.front.seen(/manifests|referrers/)).toEqual([]);
    expect(sumIn(await reading(join(dir, 'head')))).toBe(sha256(head));
    release();
    expect(sumIn(await waiting)).toBe(sha256(tail));
    if (writable) expect(readFileSync(join(dir, 'made'), 'utf8')).toBe('changes');
    expect((await place.daemon.status()).mounts).toMatchObject([{ dir, state: 'serving', pid: place.daemon.pid }]);
    await place.daemon.unmount(dir);
    await until(async () => !(await keeper.kept()).includes('fuse'));
    expect(mountIds(dir)).toEqual([]);
  });

  it.each(isFullScale() ? (['kernel', 'native'] as const) : (['native'] as const))(
    'without resending: what had been asked fails, and is asked for again where the page cache can: %s',
    async (transport) => {
      const place = await Place.make('[keeper]\nresend = false\n');
      const { lab, image } = place;
      const dir = await place.daemon.mount(image.reference, { transport });
      expect(sumIn(await reading(join(dir, 'head')))).toBe(sha256(head));
      const release = place.hold();
      lab.front.forget();
      const waiting = reading(join(dir, 'tail'));
      // Past the page cache nobody asks a second time.
      const direct = output('dd', [`if=${join(dir, 'tail')}`, 'iflag=direct', 'bs=65536', 'of=/dev/null']);
      await until(() => lab.front.seen('/blobs/').length > 0);
      await delay(100);
      await place.restart('SIGKILL');
      if (transport === 'native') expect(await direct).toContain('Input/output error');
      release();
      await direct;
      expect(sumIn(await waiting)).toBe(sha256(tail));
      expect(sumIn(await reading(join(dir, 'tail')))).toBe(sha256(tail));
      expect(sumIn(await reading(join(dir, 'head')))).toBe(sha256(head));
    },
  );

  it('whose layers the kernel reads by itself is read without any daemon, and goes on', async () => {
    const place = await Place.make();
    const image = await place.lab.push('whole', [labLayer(tarOf({ path: 'tail', data: tail }))]);
    const dir = await place.daemon.mount(image.reference, { transport: 'kernel' });
    const ids = mountIds(dir);
    for (let round = 0; round < 2; round += 1)
      await place.restart('SIGKILL', async () => {
        // From the disk each time, not from the page cache.
        const files = [['tail', sha256(tail).slice('sha256:'.length)]] as const;
        const report = await new ChecksumReader({ root: dir, files, once: true }).done();
        expect(report).toMatchObject({ reads: 1, failed: [], wrong: [] });
      });
    expect(mountIds(dir)).toEqual(ids);
    await place.daemon.unmount(dir);
    await until(async () => !(await place.keeper.kept()).includes('fuse'));
  });

  it('that somebody unmounts meanwhile is over, and nothing of it is kept', async () => {
    const place = await Place.make();
    const dir = await place.daemon.mount(place.image.reference);
    const other = await place.daemon.mount(place.image.reference);
    await place.restart('SIGKILL', async () => void (await runOk('umount', ['-l', dir])));
    expect((await place.daemon.status()).mounts).toMatchObject([{ dir: other, state: 'serving' }]);
    expect((await place.keeper.kept()).filter((name) => name === 'fuse')).toHaveLength(1);
    expect(sumIn(await reading(join(other, 'tail')))).toBe(sha256(tail));
  });

  it('that is unmounted while bytes are on their way does not keep the daemon from ending', async () => {
    const place = await Place.make();
    const dir = await place.daemon.mount(place.image.reference, { transport: 'kernel' });
    const release = place.hold();
    place.lab.front.forget();
    const reader = spawn('cat', [join(dir, 'tail')], { stdio: 'ignore' });
    await until(() => place.lab.front.seen('/blobs/').length > 0);
    reader.kill('SIGKILL');
    await once(reader, 'close');
    // The kernel waits for the bytes that nobody wants any more.
    const unmounting = place.daemon.unmount(dir).catch(() => 'the daemon has ended');
    await until(() => mountIds(dir).length === 0);
    await delay(100);
    expect(await Promise.race([place.daemon.end('SIGKILL'), delay(10_000, 'it does not end')])).toBe('SIGKILL');
    expect(await unmounting).toBe('the daemon has ended');
    release();
    await place.restart('SIGKILL');
    await until(async () => !(await place.keeper.kept()).includes('fuse'));
  });

  it('is asked for by somebody who waits instead of being refused', async () => {
    const place = await Place.make();
    let answer: Promise<number | undefined> | undefined;
    await place.restart('SIGKILL', async () => {
      answer = new Promise((resolve, reject) => {
        const request = httpRequest({ socketPath: place.daemon.socket, path: '/v1/version' }, (response) => {
          response.resume();
          resolve(response.statusCode);
        });
        request.on('error', reject).end();
      });
      // It is connected before anybody is there.
      await delay(50);
    });
    expect(await answer).toBe(200);
  });
});
