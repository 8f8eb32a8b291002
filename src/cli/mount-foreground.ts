import { rm } from 'node:fs/promises';
import type { Node } from '../daemon/node.ts';
import { throttleProgress } from '../observe/progress.ts';
import type { MountWish } from './commands/mount.ts';
import { cacheSettings } from './cache-settings.ts';
import type { CliContext } from './context.ts';
import { CommandError, failureOf } from './errors.ts';
import { MountReporter } from './mount-report.ts';
import { openOptions } from './with-image.ts';
import { withNode } from './with-node.ts';

/** Serves until the mount is gone. Errors: those of mounting; also told to the process that waits, when there is one. */
export async function mountForeground(context: CliContext, wish: MountWish): Promise<void> {
  const { options } = wish;
  const reporter = options.reportFd === undefined ? undefined : new MountReporter(Number(options.reportFd));
  try {
    await serve(context, wish, reporter);
  } catch (error) {
    const { code, message, exitCode } = failureOf(error, context.signal.aborted);
    reporter?.send({ kind: 'failed', code, message: message ?? code, usage: exitCode === 2 });
    throw error;
  } finally {
    reporter?.close();
  }
  if (options.logFile !== undefined) await rm(options.logFile, { force: true });
}

async function serve(context: CliContext, wish: MountWish, reporter: MountReporter | undefined): Promise<void> {
  const { reference, dir, options } = wish;
  const use = async (node: Node) => {
    const open = openOptions(context, options);
    const relay = throttleProgress((progress) => reporter?.send({ kind: 'progress', progress }));
    const mount = await node.mount({
      ...open,
      onProgress: reporter ? relay : open.onProgress,
      reference,
      dir,
      transport: options.transport,
      writable: options.rw === true,
      readAhead: options.readAhead,
      fill: options.fill === true,
      upper: options.upper,
      logPath: options.logFile,
    });
    try {
      context.progress.close();
      if (reporter) reporter.send({ kind: 'ready', mount: { ...mount.row }, warnings: mount.warnings });
      else await announce(context, mount.row.dir, mount.row.transport, { ...mount.row }, mount.warnings);
      reporter?.close();
      // A process that lives for days must not hold the directory it was started in.
      if (reporter) process.chdir('/');
      // Whoever waits for the mount need not wait for this.
      const settings = await cacheSettings(context);
      await node.keepCache(() => settings);
      await Promise.race([mount.closed, aborted(context.signal)]);
    } finally {
      await mount.unmount();
    }
    const { reason } = await mount.closed;
    if (reason !== 'unmounted' && !context.signal.aborted)
      throw new CommandError(`the mount on ${dir} ended: ${reason}`);
  };
  await withNode(context, use, options);
}

/** What `peel mount` says once the directory serves. */
export async function announce(
  context: CliContext,
  dir: string,
  transport: string,
  mount: Readonly<Record<string, unknown>>,
  warnings: readonly string[],
): Promise<void> {
  for (const warning of warnings) context.warn(warning);
  if (context.options.json) await context.output.value({ ...mount, warnings });
  else await context.output.line(`mounted on ${dir} (${transport})`);
  await context.output.flush();
}

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
}
