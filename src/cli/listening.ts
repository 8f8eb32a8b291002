// Starting a server, with a word for everything that people get wrong about addresses.
import { parseListen } from '../registry/server/listen.ts';
import type { Registry } from '../registry/interface.ts';
import { type RegistryServer, type ServeOptions, serveRegistry } from '../registry/serve-registry.ts';
import { CommandError, UsageError } from './errors.ts';

/** Errors: UsageError for an address that is none; CommandError for one that cannot be had; those of `serveRegistry` for files. */
export async function listen(
  registry: Registry,
  options: ServeOptions & { readonly listen: string },
): Promise<RegistryServer> {
  checkAddress('--listen', options.listen);
  if (options.metrics !== undefined) checkAddress('--metrics', options.metrics);
  try {
    return await serveRegistry(registry, options);
  } catch (cause) {
    const { code, syscall, port, hostname } = cause as ListenError;
    if (code === undefined || !/^(?:listen|bind|getaddrinfo)$/.test(syscall ?? '')) throw cause;
    const ofMetrics = [`:${port}`, `${hostname}:`].some((part) => options.metrics?.includes(part));
    const address = ofMetrics && !options.listen.endsWith(`:${port}`) ? options.metrics : options.listen;
    throw new CommandError(`cannot listen on ${address}: ${listenProblems[code] ?? code}`, { code, cause });
  }
}

interface ListenError extends NodeJS.ErrnoException {
  readonly port?: number;
  readonly hostname?: string;
}

const listenProblems: Readonly<Record<string, string>> = {
  EADDRINUSE: 'something else listens there already (port 0 takes a free one)',
  EADDRNOTAVAIL: 'this machine has no such address',
  ENOTFOUND: 'there is no such host',
  EACCES: 'ports below 1024 are for root',
};

function checkAddress(option: string, text: string): void {
  try {
    parseListen(text);
  } catch (cause) {
    throw new UsageError(`${option} ${text}: expected HOST:PORT or :PORT`, { cause });
  }
}
