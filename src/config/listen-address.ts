import { isIPv6 } from 'node:net';

/** Where something is listened for: a TCP port (an empty host is every address), or a unix socket. */
export type ListenAddress = { readonly host: string; readonly port: number } | { readonly path: string };

/** More bytes than sun_path of unix(7) has room for, with its NUL. */
export const maxSocketPath = 107;

/**
 * `127.0.0.1:9464`, `localhost:9464`, `[::1]:9464`, `:9464` for all addresses of the machine, `unix:/run/peel/metrics.sock`; port 0 is
 * any that is free. Undefined for anything else.
 */
export function parseListenAddress(text: string): ListenAddress | undefined {
  if (text.startsWith('unix:')) {
    const path = text.slice('unix:'.length);
    return isSocketPath(path) ? { path } : undefined;
  }
  const [, v6, name, digits] = /^(?:\[([0-9a-fA-F:]{2,39})\]|([0-9A-Za-z.-]{0,253})):(\d{1,5})$/.exec(text) ?? [];
  const host = v6 ?? name;
  const port = Number(digits);
  if (host === undefined || port > 65_535) return undefined;
  return v6 === undefined || isIPv6(v6) ? { host, port } : undefined;
}

export function isSocketPath(path: string): boolean {
  return /^\/[^\0]+$/.test(path) && Buffer.byteLength(path) <= maxSocketPath;
}
