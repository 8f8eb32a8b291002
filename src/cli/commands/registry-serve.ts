import { closeSync, constants, openSync, writeSync } from 'node:fs';
import { access } from 'node:fs/promises';
import type { Command } from 'commander';
import { DirRegistry } from '../../registry/dir-registry.ts';
import { RegistryError } from '../../registry/errors.ts';
import { type RegistryServer, type ServeOptions, serveRegistry } from '../../registry/serve-registry.ts';
import { makeDirectory } from '../../util/make-directory.ts';
import { example } from '../command.ts';
import type { CliContext } from '../context.ts';
import { CommandError, UsageError } from '../errors.ts';
import { registryRoot } from '../registry-root.ts';

interface RegistryServeOptions {
  readonly listen: string;
  readonly accessLog?: string;
}

export function define(command: Command, context: CliContext): void {
  command
    .description('Serve an OCI registry from a directory (--root, default <state>/registry) until SIGINT or SIGTERM.')
    .option('--listen <address>', 'HOST:PORT or :PORT; port 0 takes a free one', '127.0.0.1:5000')
    .option('--access-log <file>', 'append a line of JSON for every request: what was asked for, and the bytes sent')
    .action(async (options: RegistryServeOptions) => {
      const root = registryRoot(context);
      await prepareStore(root);
      const log = options.accessLog === undefined ? undefined : openSync(options.accessLog, 'a', 0o600);
      const server = await listen(new DirRegistry(root), {
        listen: options.listen,
        // What a client asked for in vain is its own affair.
        onError: (error) => {
          if (!(error instanceof RegistryError)) context.warn(error instanceof Error ? error.message : String(error));
        },
        onRequest: (record) => {
          if (log !== undefined) writeSync(log, `${JSON.stringify(record)}\n`);
        },
      });
      try {
        if (context.options.json) await context.output.value({ url: server.url, root });
        else await context.output.line(`serving ${root} on ${server.url}`);
        await context.output.flush();
        await stopped(context.signal);
      } finally {
        await server.close();
        if (log !== undefined) closeSync(log);
      }
    });
  example(command, 'peel registry serve --root ./registry --listen 127.0.0.1:5000');
}

/** The folder is made now: a place that cannot be used must not come to light with somebody's push. */
async function prepareStore(root: string): Promise<void> {
  try {
    await makeDirectory(root, 0o700);
    await access(root, constants.R_OK | constants.X_OK);
  } catch (cause) {
    const code = errorCodeOf(cause);
    throw new CommandError(`${root} cannot hold a registry (${code}): choose another directory with --root`, {
      code,
      cause,
    });
  }
}

async function listen(registry: DirRegistry, options: ServeOptions & { listen: string }): Promise<RegistryServer> {
  try {
    return await serveRegistry(registry, options);
  } catch (cause) {
    if (cause instanceof TypeError)
      throw new UsageError(`--listen ${options.listen}: expected HOST:PORT or :PORT`, { cause });
    const code = errorCodeOf(cause);
    const why = listenProblems[code] ?? code;
    throw new CommandError(`cannot listen on ${options.listen}: ${why}`, { code, cause });
  }
}

const listenProblems: Readonly<Record<string, string>> = {
  EADDRINUSE: 'something else listens there already (port 0 takes a free one)',
  EADDRNOTAVAIL: 'this machine has no such address',
  ENOTFOUND: 'there is no such host',
  EACCES: 'ports below 1024 are for root',
};

function errorCodeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : String(error);
}

function stopped(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
}
