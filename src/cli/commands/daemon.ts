import path from 'node:path';
import type { Command } from 'commander';
import { example } from '../command.ts';
import type { CliContext } from '../context.ts';
import { parseFile } from '../options.ts';
import { version } from '../program.ts';

export function define(command: Command, context: CliContext): void {
  command
    .description(
      'Runs in the foreground and logs JSON to stderr. SIGHUP reads the configuration again; SIGTERM ends it, and mounts wait for the next one.',
    )
    .option('--config <file>', 'configuration in TOML; default: /etc/peel/config.toml where it is there', parseFile)
    .action(async (options: { config?: string }, self: Command) => {
      const isLevelGiven = self.parent?.getOptionValueSource('logLevel') === 'cli';
      await run(context, {
        file: options.config === undefined ? undefined : path.resolve(options.config),
        logLevel: isLevelGiven ? context.options.logLevel : undefined,
      });
    });
  example(command, 'peel daemon --config /etc/peel/config.toml');
}

interface DaemonWish {
  readonly file: string | undefined;
  readonly logLevel: string | undefined;
}

async function run(context: CliContext, { file, logLevel }: DaemonWish): Promise<void> {
  const [{ readEnvironment }, { takeServiceEnvironment }, { loadConfig }, { createAdjustableLog }, { LogRing }] =
    await Promise.all([
      import('../../config/environment.ts'),
      import('../../config/service-environment.ts'),
      import('../../config/load-config.ts'),
      import('../../observe/log.ts'),
      import('../../observe/log-ring.ts'),
    ]);
  const service = takeServiceEnvironment();
  const root = context.options.root === undefined ? undefined : path.resolve(context.options.root);
  const readConfig = async () => await loadConfig(file, { root, logLevel: configLevels[logLevel ?? ''] ?? logLevel });
  const config = await readConfig();
  const logRing = new LogRing();
  const log = createAdjustableLog({ level: config.log.level, ring: logRing });
  // What nobody expected may have left anything half done: another process begins anew from what is on disk.
  const onFatal = (error: unknown) => {
    const { message, stack } = error instanceof Error ? error : { message: String(error), stack: undefined };
    log.log.error({ fatal: true, error: message, stack }, 'unexpected error, the daemon ends');
    process.exit(1);
  };
  process.on('uncaughtException', onFatal).on('unhandledRejection', onFatal);
  // It may live for months and must not hold the directory it was started in.
  process.chdir('/');
  const { startDaemon } = await import('../../daemon/daemon.ts');
  let daemon: Awaited<ReturnType<typeof startDaemon>> | undefined;
  // What went wrong is in the log and in the status.
  process.on('SIGHUP', () => void daemon?.reload().catch(() => undefined));
  daemon = await startDaemon({
    version: version(),
    config,
    readConfig,
    environment: readEnvironment(),
    service,
    log,
    logRing,
  });
  await aborted(context.signal);
  await daemon.close('it was told to stop');
}

/** The configuration knows fewer words than the command line. */
const configLevels: Readonly<Record<string, string>> = { trace: 'debug', fatal: 'error' };

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
}
