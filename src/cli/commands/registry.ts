import { closeSync, openSync, writeSync } from 'node:fs';
import path from 'node:path';
import type { Command } from 'commander';
import { readEnvironment } from '../../config/environment.ts';
import { defaultRoot } from '../../config/paths.ts';
import { DirRegistry } from '../../registry/dir-registry.ts';
import { RegistryError } from '../../registry/errors.ts';
import { serveRegistry } from '../../registry/serve-registry.ts';
import { example } from '../command.ts';
import type { CliContext } from '../context.ts';
import { UsageError } from '../errors.ts';

interface ServeOptions {
  readonly listen: string;
  readonly accessLog?: string;
}

export function define(command: Command, context: CliContext): void {
  const serve = command
    .command('serve')
    .description('Serve an OCI registry from a directory (--root, default <state>/registry) until SIGINT or SIGTERM.')
    .option('--listen <address>', 'HOST:PORT or :PORT; port 0 takes a free one', '127.0.0.1:5000')
    .option('--access-log <file>', 'append a line of JSON for every request: what was asked for, and the bytes sent')
    .action(async (options: ServeOptions) => {
      if (!/:\d+$/.test(options.listen))
        throw new UsageError(`--listen ${options.listen}: expected HOST:PORT or :PORT`);
      const root = path.resolve(context.options.root ?? path.join(stateRoot(), 'registry'));
      const log = options.accessLog === undefined ? undefined : openSync(options.accessLog, 'a', 0o600);
      const server = await serveRegistry(new DirRegistry(root), {
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
  example(serve, 'peel registry serve --root ./registry --listen 127.0.0.1:5000');
}

function stateRoot(): string {
  return defaultRoot({ environment: readEnvironment(), uid: process.getuid?.() ?? 0 });
}

function stopped(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
}
