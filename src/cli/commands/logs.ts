import { open } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import path from 'node:path';
import type { Command } from 'commander';
import { mountPath } from '../../image/mount-target.ts';
import { isRunning } from '../../image/process-identity.ts';
import type { MountStatus } from '../../image/umount.ts';
import { example } from '../command.ts';
import type { CliContext } from '../context.ts';
import { CommandError } from '../errors.ts';
import { requireDaemon } from '../find-daemon.ts';
import { humanLogLine, isAboutMount } from '../log-line.ts';
import { parseCount } from '../options.ts';
import { withNode } from '../with-node.ts';

interface LogsOptions {
  readonly follow?: true;
  readonly lines: number;
}

const pollMs = 200;
/** Of a log file that is longer, the end is read. */
const maxFileBytes = 64 << 20;
/** More than the daemon keeps. */
const allLines = 100_000;

export function define(command: Command, context: CliContext): void {
  command
    .description(
      'What the daemon logged last, or what was logged about one mount. --json prints the lines as they are.',
    )
    .argument('[dir]', 'where an image is mounted')
    .option('-f, --follow', 'go on until interrupted, or until the daemon ends')
    .option('-n, --lines <count>', 'how many lines to begin with', parseCount, 200)
    .action(async (dir: string | undefined, options: LogsOptions) => {
      if (dir === undefined) return await print(context, daemonLines(context, options));
      const mount = await mountAt(context, dir);
      if (mount.daemon) return await print(context, linesAbout(context, mount, options));
      if (mount.log === undefined)
        throw new CommandError(`process ${mount.pid}, which serves ${mount.dir}, logs to where it was started`);
      await print(context, fileLines(context, mount, mount.log, options));
    });
  example(command, 'peel logs --follow');
}

async function print(context: CliContext, lines: AsyncIterable<string>): Promise<void> {
  const { output, options } = context;
  for await (const line of lines) {
    await output.line(options.json ? line : humanLogLine(line));
    await output.flush();
  }
}

async function mountAt(context: CliContext, dir: string): Promise<MountStatus> {
  const place = await mountPath(dir).catch(() => path.resolve(dir));
  const mounts = await withNode(context, (node) => node.mounts());
  const found = mounts.findLast((mount) => mount.dir === place);
  if (found === undefined)
    throw new CommandError(`${place} is not mounted by peel (see peel mounts)`, { code: 'ERR_MOUNT_UNKNOWN' });
  return found;
}

async function* daemonLines(context: CliContext, { lines, follow }: LogsOptions): AsyncGenerator<string> {
  const daemon = await requireDaemon(context);
  yield* daemon.logs({ tail: lines, follow: follow === true }, { signal: context.signal });
}

async function* linesAbout(context: CliContext, { id }: MountStatus, options: LogsOptions): AsyncGenerator<string> {
  const daemon = await requireDaemon(context);
  const { signal } = context;
  const past: string[] = [];
  for await (const line of daemon.logs({ tail: allLines, follow: false }, { signal }))
    if (isAboutMount(line, id)) past.push(line);
  yield* options.lines === 0 ? [] : past.slice(-options.lines);
  if (!options.follow) return;
  for await (const line of daemon.logs({ tail: 0, follow: true }, { signal })) if (isAboutMount(line, id)) yield line;
}

/** Until the process that writes it has ended. */
async function* fileLines(
  { signal }: CliContext,
  mount: MountStatus,
  file: string,
  { lines, follow }: LogsOptions,
): AsyncGenerator<string> {
  await using handle = await open(file, 'r');
  const { size } = await handle.stat();
  let position = Math.max(0, size - maxFileBytes);
  let rest = '';
  const more = async (): Promise<string[]> => {
    const chunks: Buffer[] = [];
    for (;;) {
      const { bytesRead, buffer } = await handle.read(Buffer.alloc(65_536), 0, 65_536, position);
      if (bytesRead === 0) break;
      position += bytesRead;
      chunks.push(buffer.subarray(0, bytesRead));
    }
    const found = (rest + Buffer.concat(chunks).toString('utf8')).split('\n');
    rest = found.pop() ?? '';
    return found;
  };
  const past = await more();
  yield* lines === 0 ? [] : past.slice(-lines);
  if (follow !== true) return;
  while (!signal.aborted && (await isRunning(mount))) {
    await delay(pollMs, undefined, { signal }).catch(() => undefined);
    yield* await more();
  }
  // What it said last, and then ended.
  yield* await more();
}
