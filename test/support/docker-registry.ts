// Debian's docker-registry as a second opinion: an old registry without the referrers API, with quirks of its own.
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

export interface DockerRegistry {
  /** `127.0.0.1:34567` */
  readonly host: string;
  close(): Promise<void>;
}

export interface DockerRegistryOptions {
  /** The content of a password file. */
  readonly htpasswd?: string;
  readonly tls?: { readonly certFile: string; readonly keyFile: string; readonly clientCaFile?: string };
  /** Tokens instead of passwords. */
  readonly token?: {
    readonly realm: string;
    readonly service: string;
    readonly issuer: string;
    readonly certificateFile: string;
  };
}

/** Without a password file or a token server anybody may do anything. */
export async function startDockerRegistry(options: DockerRegistryOptions = {}): Promise<DockerRegistry> {
  const dir = mkdtempSync(path.join(tmpdir(), 'peel-docker-registry-'));
  const host = `127.0.0.1:${await freePort()}`;
  const lines = [
    'version: 0.1',
    'log: { level: error }',
    `storage: { filesystem: { rootdirectory: ${dir}/data }, delete: { enabled: true } }`,
    `http: { addr: "${host}"${tlsLine(options.tls)} }`,
  ];
  if (options.htpasswd !== undefined) {
    writeFileSync(path.join(dir, 'htpasswd'), options.htpasswd);
    lines.push(`auth: { htpasswd: { realm: test, path: ${dir}/htpasswd } }`);
  }
  if (options.token !== undefined) {
    const { realm, service, issuer, certificateFile } = options.token;
    lines.push(
      `auth: { token: { realm: "${realm}", service: ${service}, issuer: ${issuer}, rootcertbundle: ${certificateFile} } }`,
    );
  }
  writeFileSync(path.join(dir, 'config.yml'), `${lines.join('\n')}\n`);
  const child = spawn('docker-registry', ['serve', path.join(dir, 'config.yml')], { stdio: 'ignore' });
  const ended = new Promise<void>((resolve) => {
    child.once('error', () => resolve());
    child.once('exit', () => resolve());
  });
  const close = async () => {
    child.kill('SIGKILL');
    await ended;
    rmSync(dir, { recursive: true, force: true });
  };
  for (let tries = 0; tries < 200; tries += 1) {
    if (child.exitCode !== null || child.pid === undefined) break;
    if (await accepts(host)) return { host, close };
    await delay(50);
  }
  await close();
  throw new Error('docker-registry did not start');
}

function tlsLine(tls: DockerRegistryOptions['tls']): string {
  if (tls === undefined) return '';
  const { certFile, keyFile, clientCaFile } = tls;
  const clients = clientCaFile === undefined ? '' : `, clientcas: [${clientCaFile}]`;
  return `, tls: { certificate: ${certFile}, key: ${keyFile}${clients} }`;
}

async function accepts(host: string): Promise<boolean> {
  const { hostname, port } = new URL(`http://${host}`);
  return await new Promise((resolve) => {
    const socket = connect(Number(port), hostname, () => void socket.destroy()).once('error', () => resolve(false));
    socket.once('close', () => resolve(true));
  });
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => void server.close(resolve));
  return port;
}
