// Programs that decode layers instead of us: real ones, and small shell scripts that misbehave.
import { chmod, mkdir, readdir, readFile, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';
import { open } from 'node:fs/promises';
import { describe, expect, it, onTestFinished } from 'vitest';
import { ztocFromBuild } from '../../src/index/ztoc-from-build.ts';
import { readTar } from '../../src/tar/reader.ts';
import { Decompressor } from '../../src/unpack/decompressor.ts';
import { sequentialPass } from '../../src/unpack/sequential-pass.ts';
import { chunked, filter, noise, sha256 } from '../index/layers.ts';
import { SinkRecord } from '../support/sink-record.ts';
import { archive } from '../support/tar-builder.ts';
import { tempDir } from '../support/tmp.ts';

const tar = archive({ name: 'noise', data: noise(1_500_000) }, { name: 'text', data: 'text\n'.repeat(300_000) });
const gz = gzipSync(tar);
const gzipType = 'application/vnd.oci.image.layer.v1.tar+gzip';
const zstdType = 'application/vnd.oci.image.layer.v1.tar+zstd';

async function script(text: string): Promise<string> {
  const file = path.join(tempDir(), 'program');
  await writeFile(file, `#!/bin/sh\n${text}\n`);
  await chmod(file, 0o755);
  return file;
}

interface Change {
  readonly blob?: AsyncIterable<Uint8Array>;
  readonly signal?: AbortSignal;
  readonly mediaType?: string;
  readonly maxLayerSize?: number;
}

async function pass(command: readonly string[], blob: Buffer = gz, change: Change = {}) {
  const file = await open(path.join(tempDir(), 'data'), 'w+');
  onTestFinished(() => file.close());
  const sink = new SinkRecord();
  const build = await sequentialPass({
    blob: change.blob ?? chunked(blob),
    descriptor: { mediaType: change.mediaType ?? gzipType, digest: sha256(blob), size: blob.length },
    diffId: sha256(tar),
    dataFd: file.fd,
    sink,
    limits: { maxLayerSize: change.maxLayerSize ?? 1 << 30, maxRatio: 1100 },
    command,
    signal: change.signal ?? AbortSignal.timeout(30_000),
  });
  return { build, sink };
}

/** Processes that have `word` in their command line. */
async function running(word: string): Promise<string[]> {
  const found: string[] = [];
  for (const pid of await readdir('/proc')) {
    if (!/^\d+$/.test(pid)) continue;
    const line = await readFile(`/proc/${pid}/cmdline`, 'latin1').catch(() => '');
    if (line.includes(word)) found.push(line);
  }
  return found;
}

async function expectGone(word: string): Promise<void> {
  for (let i = 0; i < 100 && (await running(word)).length > 0; i += 1) await delay(20);
  expect(await running(word)).toEqual([]);
}

describe('Decompressor', () => {
  it.each<[string, string[], string, () => Promise<Buffer> | Buffer]>([
    ['gzip', ['/bin/gzip', '-dc'], gzipType, () => gz],
    ['unpigz', ['/usr/bin/unpigz', '-c'], gzipType, () => gz],
    ['igzip', ['/usr/bin/igzip', '-d', '-c'], gzipType, () => gz],
    ['zstd', ['/usr/bin/zstd', '-q', '-dc'], zstdType, () => filter('zstd', ['-q', '-c'], tar)],
  ])('decodes with %s what we would have decoded', async (_, command, mediaType, make) => {
    const { build, sink } = await pass(command, await make(), { mediaType });
    expect(sink.members).toEqual(readTar(tar));
    expect(Buffer.concat(sink.stream).equals(tar)).toBe(true);
    expect(build).toMatchObject({ diffId: sha256(tar), streamSize: tar.length, checkpoints: undefined });
    expect(build.spans.span(0).decoder).toBe('sequential');
    expect(ztocFromBuild(build, { buildTool: 't' }).ztoc).toBeUndefined();
  });

  it('is not asked for what is of another kind than its media type says', async () => {
    await expect(pass([await script('exit 9')])).rejects.toMatchObject({ code: 'ERR_UNPACK_DECOMPRESSOR' });
    const { build } = await pass([await script('exit 9')], tar);
    expect(build.compression).toBe('none');
  });

  it('sees no shell and nothing of our environment', async () => {
    process.env['PEEL_TEST_SECRET'] = 'x';
    onTestFinished(() => void delete process.env['PEEL_TEST_SECRET']);
    const file = path.join(tempDir(), 'seen');
    const program = await script(`{ pwd; env; echo "$1"; } > ${file}; exec gzip -dc`);
    await pass([program, '$(touch /tmp/oops) "; | &']);
    const lines = (await readFile(file, 'utf8')).trim().split('\n');
    expect(lines[0]).toBe('/');
    expect(lines.at(-1)).toBe('$(touch /tmp/oops) "; | &');
    const names = lines.slice(1, -1).map((line) => line.replace(/=.*/, ''));
    expect(names.filter((name) => !['PATH', 'LC_ALL', 'PWD', 'OLDPWD', 'SHLVL', '_'].includes(name))).toEqual([]);
  });

  it.each<[string, () => Promise<string[]>, string]>([
    ['a relative path', async () => ['gzip', '-dc'], 'not an absolute path'],
    ['what is not there', async () => ['/nonexistent/program'], 'ENOENT'],
    ['a directory', async () => ['/usr'], 'not a regular file'],
    ['a file that is no program', async () => [await plainFile()], 'EACCES'],
    [
      'a program that fails, with its last words',
      async () => [await script('echo first >&2; echo bad crc >&2; exit 3')],
      'status 3: bad crc',
    ],
    ['a program that is killed', async () => [await script('kill -9 $$')], 'ended by SIGKILL'],
    ['a program that does not read everything', async () => [await script('exec head -c 100')], 'before it had read'],
    [
      'a program that is content with a part',
      async () => [await script('head -c 1000 > /dev/null; exit 0')],
      'before it had read',
    ],
  ])('is refused when it is %s', async (_, command, message) => {
    const failing = pass(await command());
    await expect(failing).rejects.toMatchObject({
      code: 'ERR_UNPACK_DECOMPRESSOR',
      message: expect.stringContaining(message),
    });
  });

  it('may be reached by a symbolic link', async () => {
    const dir = tempDir();
    await mkdir(path.join(dir, 'bin'));
    await symlink('/bin/gzip', path.join(dir, 'bin', 'unpack'));
    await pass([path.join(dir, 'bin', 'unpack'), '-dc']);
  });

  it('does not decide what the layer is', async () => {
    const otherStream = await script('cat > /dev/null; exec gzip -dc < /dev/null');
    await expect(pass([otherStream])).rejects.toMatchObject({ code: 'ERR_UNPACK_DECOMPRESSOR' });
    const empty = await script('cat > /dev/null');
    await expect(pass([empty])).rejects.toMatchObject({ code: 'ERR_UNPACK_DIFF_ID' });
    const blob = Buffer.from(gz);
    const bad = sequentialBadDigest(blob);
    await expect(bad).rejects.toMatchObject({ code: 'ERR_UNPACK_DIGEST' });
  });

  it.each<[string, (word: string) => Promise<unknown>]>([
    [
      'the reason of the signal',
      async (word) => {
        const controller = new AbortController();
        const hanging = pass([await script('sleep $1; :'), word], gz, { signal: controller.signal });
        setTimeout(() => controller.abort(new Error('cancelled')), 100);
        await expect(hanging).rejects.toThrow('cancelled');
      },
    ],
    [
      'what the blob throws',
      async (word) => {
        async function* broken(): AsyncGenerator<Uint8Array> {
          yield gz.subarray(0, 100_000);
          throw new Error('the line is dead');
        }
        await expect(pass([await script('gzip -dc; sleep $1'), word], gz, { blob: broken() })).rejects.toThrow(
          'the line is dead',
        );
      },
    ],
    [
      'a limit, while the blob is still awaited',
      async (word) => {
        async function* stalled(): AsyncGenerator<Uint8Array> {
          yield gz.subarray(0, 1_500_000);
          await delay(60_000, undefined, { ref: false });
        }
        const large = pass([await script('gzip -dc; sleep $1'), word], gz, { blob: stalled(), maxLayerSize: 400_000 });
        await expect(large).rejects.toMatchObject({ code: 'ERR_UNPACK_LIMIT' });
      },
    ],
  ])('is gone after %s', async (_, fail) => {
    // Seconds that nobody else sleeps: they find the program, and what it has started.
    const word = `700.${process.pid}${Math.floor(Math.random() * 1e9)}`;
    await fail(word);
    await expectGone(word);
  });

  it('has nothing to end before it was started', async () => {
    await new Decompressor(['/bin/gzip'], { signal: new AbortController().signal }).close();
  });
});

async function plainFile(): Promise<string> {
  const file = path.join(tempDir(), 'plain');
  await writeFile(file, 'text');
  return file;
}

async function sequentialBadDigest(blob: Buffer): Promise<unknown> {
  const file = await open(path.join(tempDir(), 'data'), 'w+');
  onTestFinished(() => file.close());
  return await sequentialPass({
    blob: chunked(blob),
    descriptor: { mediaType: gzipType, digest: sha256(Buffer.from('other')), size: blob.length },
    diffId: sha256(tar),
    dataFd: file.fd,
    sink: new SinkRecord(),
    limits: { maxLayerSize: 1 << 30, maxRatio: 1100 },
    command: ['/bin/gzip', '-dc'],
    signal: AbortSignal.timeout(30_000),
  });
}
