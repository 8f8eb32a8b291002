import { closeSync, constants, openSync, writeSync } from 'node:fs';
import { access } from 'node:fs/promises';
import type { Command } from 'commander';
import { RegistryError, statusOfCode } from '../../registry/errors.ts';
import { makeFolder } from '../../registry/store/durable-file.ts';
import { addAccessOptions } from '../access-options.ts';
import { example } from '../command.ts';
import type { CliContext } from '../context.ts';
import { CommandError, UsageError } from '../errors.ts';
import { listen } from '../listening.ts';
import { parseFile } from '../options.ts';
import { registryRoot } from '../registry-root.ts';
import { type ServedOptions, servedRegistry } from '../served-registry.ts';

interface RegistryServeOptions extends ServedOptions {
  readonly listen: string;
  readonly metrics?: string;
  readonly tlsCert?: string;
  readonly tlsKey?: string;
  readonly htpasswd?: string;
  readonly accessLog?: string;
}

/** How long requests may take to end after the server was told to. */
const graceMs = 5_000;

export function define(command: Command, context: CliContext): void {
  command
    .description(
      'Serve an OCI registry from a directory until SIGINT or SIGTERM. Here --root is that directory; default: registry/ in the state directory.',
    )
    .option('--listen <address>', 'HOST:PORT or :PORT; port 0 takes a free one', '127.0.0.1:5000')
    .option(
      '--pull-through <registry[/prefix]>',
      'be a read-only cache of that registry, or of its repositories below PREFIX',
    )
    .option('--tls-cert <file>', 'PEM file of the certificate to speak TLS with; read again when it changes', parseFile)
    .option('--tls-key <file>', 'PEM file of its key', parseFile)
    .option(
      '--htpasswd <file>',
      'who may ask: users with bcrypt hashes (htpasswd -B); read again when it changes',
      parseFile,
    )
    .option('--read-only', 'refuse every change')
    .option('--immutable-tags', 'a tag, once pushed, can neither be moved nor deleted')
    .option('--metrics <address>', 'answer GET /metrics there, for Prometheus')
    .option(
      '--access-log <file>',
      'append a line of JSON for every request: when it ended, what was asked for, and the bytes sent',
    );
  addAccessOptions(command).action((options: RegistryServeOptions) => serve(context, options));
  command.addHelpText(
    'after',
    '\n--user, --ca-file and --insecure say how the registry of --pull-through is asked: everybody who may ask this\nserver reads what that user may read. Without --htpasswd everybody may.',
  );
  example(command, 'peel registry serve --root ./registry --listen 127.0.0.1:5000');
}

async function serve(context: CliContext, options: RegistryServeOptions): Promise<void> {
  const tls = tlsOf(options);
  const { user, caFile, insecure } = options;
  if (options.pullThrough === undefined && [user, caFile, insecure].some((given) => given !== undefined))
    throw new UsageError('--user, --ca-file and --insecure are for --pull-through');
  const root = registryRoot(context);
  await prepareStore(root);
  await using served = await servedRegistry(context, root, options);
  using log = openAccessLog(options.accessLog, context.warn);
  const server = await listen(served.registry, {
    listen: options.listen,
    tls,
    htpasswd: options.htpasswd,
    metrics: options.metrics,
    // What a client asked for in vain is its own affair.
    onError: (error) => {
      if (!(error instanceof RegistryError) || statusOfCode[error.code] === 500)
        context.warn(error instanceof Error ? error.message : String(error));
    },
    onRequest: log.write,
  });
  try {
    const { url, metricsUrl } = server;
    if (context.options.json) await context.output.value({ url, root, upstream: options.pullThrough, metricsUrl });
    else {
      const what = options.pullThrough === undefined ? root : `${options.pullThrough} through ${root}`;
      if (metricsUrl !== undefined) await context.output.line(`metrics are on ${metricsUrl}`);
      await context.output.line(`serving ${what} on ${url}`);
    }
    await context.output.flush();
    await stopped(context.signal);
  } finally {
    await server.close({ graceMs });
  }
}

/** A full disk must not end the server: that lines are missing is said once. */
function openAccessLog(
  file: string | undefined,
  warn: (message: string) => void,
): Disposable & { readonly write: (record: object) => void } {
  if (file === undefined) return { write: () => {}, [Symbol.dispose]: () => {} };
  const fd = openSync(file, 'a', 0o600);
  let isComplete = true;
  return {
    write: (record) => {
      try {
        writeSync(fd, `${JSON.stringify({ time: new Date().toISOString(), ...record })}\n`);
      } catch (error) {
        if (isComplete) warn(`lines are missing in ${file}: ${error instanceof Error ? error.message : String(error)}`);
        isComplete = false;
      }
    },
    [Symbol.dispose]: () => closeSync(fd),
  };
}

function tlsOf({ tlsCert, tlsKey }: RegistryServeOptions): { cert: string; key: string } | undefined {
  if (tlsCert === undefined && tlsKey === undefined) return undefined;
  if (tlsCert === undefined || tlsKey === undefined) throw new UsageError('--tls-cert and --tls-key go together');
  return { cert: tlsCert, key: tlsKey };
}

/** The folder is made now: a place that cannot be used must not come to light with somebody's push. */
async function prepareStore(root: string): Promise<void> {
  try {
    await makeFolder(root, 0o700);
    await access(root, constants.R_OK | constants.X_OK);
  } catch (cause) {
    const code = cause instanceof Error && 'code' in cause ? String(cause.code) : String(cause);
    throw new CommandError(`${root} cannot hold a registry (${code}): choose another directory with --root`, {
      code,
      cause,
    });
  }
}

function stopped(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
}
