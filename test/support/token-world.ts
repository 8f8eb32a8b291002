// A token server of a few lines and a registry that takes its tokens, for what a real one does not do.
import { onTestFinished } from 'vitest';
import type { CredentialSource, Credentials } from '../../src/registry/auth/credentials.ts';
import { DirRegistry } from '../../src/registry/dir-registry.ts';
import { RemoteRegistry } from '../../src/registry/remote-registry.ts';
import type { RemoteRegistryOptions } from '../../src/registry/remote-registry.ts';
import { serveRegistry } from '../../src/registry/serve-registry.ts';
import { startFaultyRegistry } from './faulty-registry.ts';
import { pushImage } from './registry-content.ts';
import { tempDir } from './tmp.ts';

export const password: Credentials = { kind: 'password', username: 'ann', password: 'se:cret' };
export const annBasic = `Basic ${Buffer.from('ann:se:cret').toString('base64')}`;

export function fixed(credentials: Credentials | undefined): CredentialSource & { readonly hosts: string[] } {
  const hosts: string[] = [];
  return { hosts, lookup: async (host) => (hosts.push(host), credentials) };
}

/** A token server and a registry behind it that takes only tokens for the right scope. */
export async function tokenWorld(options: { expiresIn?: number; postStatus?: number; insist?: string } = {}) {
  const backend = await serveRegistry(new DirRegistry(tempDir()));
  const direct = new RemoteRegistry({ host: backend.host });
  const image = await pushImage(direct, 'a/b', 'v1');
  const issued: {
    readonly method: string;
    readonly scope: string;
    readonly authorization: string | undefined;
    readonly body: string;
  }[] = [];
  const refused = new Set<string>();
  const tokens = await startFaultyRegistry(undefined, async (request, response) => {
    let body = '';
    for await (const chunk of request) body += String(chunk);
    const url = new URL(`http://x${request.url}`);
    const scope =
      request.method === 'POST'
        ? (new URLSearchParams(body).get('scope') ?? '')
        : url.searchParams.getAll('scope').join(' ');
    if (request.method === 'POST' && options.postStatus !== undefined) {
      response.writeHead(options.postStatus).end();
      return true;
    }
    const { authorization } = request.headers;
    issued.push({ method: request.method ?? '', scope, authorization, body });
    if (authorization !== undefined && authorization !== annBasic) {
      response.writeHead(401).end('{"details":"incorrect username or password"}');
      return true;
    }
    const token = Buffer.from(`${issued.length}|${scope}`).toString('base64url');
    const answer = {
      token,
      expires_in: options.expiresIn ?? 300,
      refresh_token: request.method === 'POST' ? `next-${issued.length}` : undefined,
    };
    response.end(JSON.stringify(answer));
    return true;
  });
  const registry = await startFaultyRegistry(backend.url, (request, response) => {
    const bearer = /^Bearer (.+)$/.exec(request.headers.authorization ?? '')?.[1];
    const scope = bearer === undefined ? '' : Buffer.from(bearer, 'base64url').toString('utf8');
    const action = options.insist ?? (request.method === 'GET' || request.method === 'HEAD' ? 'pull' : 'push');
    if (bearer !== undefined && !refused.has(bearer) && scope.includes(action)) return false;
    const repository = /^\/v2\/(.+?)\/(?:blobs|manifests|tags|referrers)\//.exec(request.url ?? '')?.[1];
    const challenge = `Bearer realm="${tokens.url}/token",service="registry",scope="repository:${repository ?? ''}:${action}"`;
    response.writeHead(401, { 'www-authenticate': challenge }).end();
    return true;
  });
  const client = (more: Partial<RemoteRegistryOptions> = {}) => {
    const made = new RemoteRegistry({
      host: registry.host,
      backoff: { attempts: 1, baseMs: 1, maxMs: 1, maxRetryAfterMs: 1 },
      ...more,
    });
    onTestFinished(async () => await made.close());
    return made;
  };
  onTestFinished(async () => {
    await direct.close();
    await registry.close();
    await tokens.close();
    await backend.close();
  });
  return { client, issued, refused, registry, tokens, image };
}
