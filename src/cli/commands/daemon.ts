import path from 'node:path';
import type { Command } from 'commander';
import type { ConfigOverrides } from '../../config/load-config.ts';
import { keepNeededCapabilities } from '../../daemon/capabilities.ts';
import { compileRarely } from '../../daemon/compile-rarely.ts';
import type { Daemon } from '../../daemon/daemon.ts';
import { example } from '../command.ts';
import { configOverrides } from '../config-overrides.ts';
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
      // Absolute from here on: the working directory is left.
      const { root, ...overrides } = configOverrides(self, context);
      await run(context, options.config === undefined ? undefined : path.resolve(options.config), {
        ...overrides,
        root: root === undefined ? undefined : path.resolve(root),
      });
    });
  example(command, 'peel daemon --config /etc/peel/config.toml');
}

async function run(context: CliContext, file: string | undefined, overrides: ConfigOverrides): Promise<void> {
  const excess = keepNeededCapabilities();
  compileRarely();
  const [{ readEnvironment }, { takeServiceEnvironment }, { loadConfig }, { createAdjustableLog }, { LogRing }] =
    await Promise.all([
      import('../../config/environment.ts'),
      import('../../config/service-environment.ts'),
      import('../../config/load-config.ts'),
      import('../../observe/log.ts'),
      import('../../observe/log-ring.ts'),
    ]);
  const service = takeServiceEnvironment();
  const readConfig = async () => await loadConfig(file, overrides);
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
  if (excess !== undefined) log.log.warn({}, excess);
  let daemon: Daemon | undefined;
  let isReloadMissed = false;
  // What went wrong is in the log and in the status.
  const reload = () => {
    if (daemon === undefined) isReloadMissed = true;
    else daemon.reload().catch(() => undefined);
  };
  process.on('SIGHUP', reload);
  const { signal } = context;
  try {
    const environment = readEnvironment();
    const { doFirstThings } = await import('../../daemon/first-things.ts');
    const first = await doFirstThings({ config, environment, log: log.log, signal });
    const { startDaemon } = await import('../../daemon/daemon.ts');
    daemon = await startDaemon({
      version: version(),
      config,
      readConfig,
      environment,
      service,
      first,
      log,
      logRing,
      signal,
    });
  } catch (error) {
    // It was stopped in order, only early.
    if (signal.aborted) return;
    throw error;
  }
  if (isReloadMissed) reload();
  await aborted(signal);
  await daemon.close('it was told to stop');
}

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
}
