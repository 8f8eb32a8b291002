import { isIPv4 } from 'node:net';
import { isRegistryHost } from '../../oci/reference.ts';

/** `auto`: plain HTTP for loopback hosts, HTTPS for all others. `fallback`: HTTPS, and plain HTTP once no TLS was found there. */
export type PlainHttp = 'auto' | 'fallback' | boolean;

/** The base URL of the host of a reference. Docker Hub's API lives on another host than its name says. Throws TypeError for what is no host. */
export function endpointOf(host: string, plainHttp: PlainHttp): URL {
  if (!isRegistryHost(host)) throw new TypeError(`not a registry host: ${JSON.stringify(host.slice(0, 200))}`);
  const plain = plainHttp === 'auto' ? isLoopbackHost(host) : plainHttp === true;
  const apiHost = host === 'docker.io' || host === 'index.docker.io' ? 'registry-1.docker.io' : host;
  return new URL(`${plain ? 'http' : 'https'}://${apiHost}`);
}

/** `localhost`, 127.0.0.0/8 and `[::1]`, with or without a port. */
export function isLoopbackHost(host: string): boolean {
  const name = host.startsWith('[') ? host.slice(0, host.indexOf(']') + 1) : host.replace(/:\d+$/, '');
  if (name === '[::1]') return true;
  return name.toLowerCase() === 'localhost' || (isIPv4(name) && name.startsWith('127.'));
}
