import { type Command, Option } from 'commander';
import { parseDirectory } from './options.ts';

const logLevels = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'];

/** Options that every command takes, before or after the verb. */
export function addGlobalOptions(program: Command): void {
  program
    .addOption(new Option('--root <dir>', 'state directory: database, block cache, trees').argParser(parseDirectory))
    .addOption(new Option('--json', 'print the answer as JSON, errors too').default(false))
    .addOption(new Option('--log-level <level>', 'log to stderr').choices(logLevels).default('error'));
}
