import { setMaxListeners } from 'node:events';
import { readFileSync } from 'node:fs';
import { Command, CommanderError } from 'commander';
import type { CliContext, GlobalOptions } from './context.ts';
import { exitCodes, failureOf, UsageError } from './errors.ts';
import { addGlobalOptions } from './globals.ts';
import { Output } from './output.ts';
import { ProgressWriter } from './progress.ts';
import { verbs } from './verbs.ts';

/** Runs one command line (without node and script). Returns the exit code; everything was written when it resolves. */
export async function runCli(argv: readonly string[]): Promise<number> {
  const interrupt = new AbortController();
  // Every read that is under way listens to it.
  setMaxListeners(0, interrupt.signal);
  let taken: ((signal: NodeJS.Signals) => void) | undefined;
  const onSignal = (signal: NodeJS.Signals): void => {
    if (taken !== undefined) return taken(signal);
    if (interrupt.signal.aborted) process.exit(exitCodes.interrupted);
    interrupt.abort();
  };
  // A closed terminal ends a foreground mount as well, which must not stay without its process.
  process.on('SIGINT', onSignal).on('SIGTERM', onSignal);
  if (verbs.find(({ name }) => name === chosenVerb(argv))?.ownsHangup !== true) process.on('SIGHUP', onSignal);
  process.stderr.on('error', () => undefined);

  const program = emptyProgram();
  const takeSignals: CliContext['takeSignals'] = (handler) => {
    taken = handler;
    return () => (taken = undefined);
  };
  const context = contextOf(program, { signal: interrupt.signal, takeSignals });
  try {
    await defineVerbs(program, context, chosenVerb(argv));
    await program.parseAsync(argv, { from: 'user' });
    await context.output.flush();
    return exitCodes.ok;
  } catch (error) {
    context.progress.close();
    if (error instanceof CommanderError && error.exitCode === 0) return exitCodes.ok;
    const failure = failureOf(asUsage(error, program, argv), interrupt.signal.aborted);
    await context.output.flush().catch(() => undefined);
    if (failure.message !== undefined) {
      const json = { error: { code: failure.code, message: failure.message } };
      process.stderr.write(argv.includes('--json') ? `${JSON.stringify(json)}\n` : `peel: ${failure.message}\n`);
    }
    return failure.exitCode;
  } finally {
    context.progress.close();
  }
}

/** All commands with their arguments and options, for completion and for the tests. */
export async function fullProgram(context?: CliContext): Promise<Command> {
  const program = emptyProgram();
  await defineVerbs(
    program,
    context ?? contextOf(program, { signal: new AbortController().signal, takeSignals: () => () => {} }),
    'all',
  );
  return program;
}

export function version(): string {
  const manifest = readFileSync(new URL('../../package.json', import.meta.url), 'utf8');
  return (JSON.parse(manifest) as { version: string }).version;
}

function emptyProgram(): Command {
  const program = new Command('peel')
    .description('Mount a container image without downloading it; look into one without mounting it.')
    .version(version())
    .configureHelp({ showGlobalOptions: true })
    .configureOutput({ outputError: () => undefined })
    .exitOverride()
    .showSuggestionAfterError();
  addGlobalOptions(program);
  program.addHelpText('after', '\nExample:\n  $ peel mount docker.io/library/debian:12 /mnt');
  return program;
}

async function defineVerbs(program: Command, context: CliContext, chosen: string | undefined): Promise<void> {
  for (const verb of verbs) {
    const command = program.command(verb.name).description(verb.summary);
    // Completion lists the options of all the others.
    if (chosen === 'all' || chosen === 'completion' || chosen === verb.name)
      (await verb.load()).define(command, context);
  }
}

function contextOf(program: Command, signals: Pick<CliContext, 'signal' | 'takeSignals'>): CliContext {
  const progress = new ProgressWriter(process.stderr);
  return {
    get options() {
      return program.opts<GlobalOptions>();
    },
    output: new Output(process.stdout),
    progress,
    ...signals,
    warn: (message) => {
      progress.clear();
      process.stderr.write(`peel: ${message}\n`);
    },
  };
}

/** The first word that is no option, nor the value of a global one; for `help VERB`, the verb. */
function chosenVerb(argv: readonly string[]): string | undefined {
  const words = wordsOf(argv);
  return words[0] === 'help' ? words[1] : words[0];
}

function wordsOf(argv: readonly string[]): string[] {
  const withValue = ['--root', '--log-level'];
  return argv.filter((word, index) => !word.startsWith('-') && !withValue.includes(argv[index - 1] ?? ''));
}

/** The verb and, of a group, the one within it. */
function chosenCommands(program: Command, argv: readonly string[]): string[] {
  const names: string[] = [];
  let group = program;
  for (const word of wordsOf(argv)) {
    const command = group.commands.find((candidate) => candidate.name() === word);
    if (command === undefined) continue;
    names.push(word);
    group = command;
  }
  return names;
}

function asUsage(error: unknown, program: Command, argv: readonly string[]): unknown {
  if (!(error instanceof CommanderError)) return error;
  const hint = `see: ${['peel', ...chosenCommands(program, argv), '--help'].join(' ')}`;
  // Commander's own "(outputHelp)": `peel` alone, whose help is already on stderr.
  if (error.code === 'commander.help') return new UsageError('no command given');
  return new UsageError(`${error.message.replace(/^error: /, '')}; ${hint}`, { cause: error });
}
