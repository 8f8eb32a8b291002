import { accessSync, constants } from 'node:fs';
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Command } from 'commander';
import { socketPaths } from '../../config/sockets.ts';
import { neededCapabilities } from '../../daemon/capabilities.ts';
import { keeperProgram } from '../../native/keeper-program.ts';
import { execute } from '../../native/sys.ts';
import { makeDirectory } from '../../util/make-directory.ts';
import { example } from '../command.ts';
import { configOverrides } from '../config-overrides.ts';
import type { CliContext } from '../context.ts';
import { CommandError, UsageError } from '../errors.ts';
import { parseFile } from '../options.ts';

interface KeeperOptions {
  readonly config?: string;
  readonly alone?: true;
}

export function define(command: Command, context: CliContext): void {
  command
    .description(
      'Becomes a small process that starts `peel daemon`, starts it again when it ends, and holds its mounts meanwhile: whoever reads, waits. SIGTERM ends both, SIGHUP is for the daemon, and with SIGUSR2 the keeper becomes its own new version.',
    )
    .argument('[args...]', 'further arguments of `peel daemon`, after --')
    .option('--config <file>', 'configuration in TOML, also of the daemon; default: as of peel daemon', parseFile)
    .option('--alone', 'start no daemon: a service manager does')
    .action(async (args: string[], options: KeeperOptions, self: Command) => {
      if (options.alone === true && args.length > 0)
        throw new UsageError('--alone starts no daemon that could have arguments');
      if (args.some((word) => /^--config(=|$)/.test(word)))
        throw new UsageError('--config is an argument of the keeper as well: give it before --');
      const file = options.config === undefined ? undefined : resolve(options.config);
      const overrides = configOverrides(self, context);
      const root = overrides.root === undefined ? undefined : resolve(overrides.root);
      const { loadConfig } = await import('../../config/load-config.ts');
      const config = await loadConfig(file, { ...overrides, root });
      await makeDirectory(config.run_dir, 0o700);
      const globals = [...given('--root', root), ...given('--log-level', overrides.logLevel)];
      const daemon = [...daemonCommand(), ...globals, 'daemon', ...given('--config', file), ...args];
      become(socketPaths(config).keeper, options.alone === true ? [] : ['--', ...daemon]);
    });
  example(command, 'peel keeper --config /etc/peel/config.toml');
}

/** This program, by the path that an upgrade puts the next one at. */
export function daemonCommand(): readonly string[] {
  return [process.execPath, fileURLToPath(new URL('../main.js', import.meta.url))];
}

function become(socket: string, command: readonly string[]): never {
  const program = keeperProgram();
  try {
    accessSync(program, constants.X_OK);
    return execute(program, [program, '--socket', socket, '--capabilities', String(neededCapabilities), ...command]);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new CommandError(`the keeper cannot be started: ${why}; run "npm run install" to build it`, {
      code: 'ERR_NATIVE_MISSING',
      cause,
    });
  }
}

function given(option: string, value: string | undefined): readonly string[] {
  return value === undefined ? [] : [option, value];
}
