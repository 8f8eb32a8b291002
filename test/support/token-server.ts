// A token server as the distribution project specifies it, for a real registry behind it: signed JWTs, password by GET and OAuth2 by POST.
import { execFileSync } from 'node:child_process';
import { createSign, randomBytes, X509Certificate } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { onTestFinished } from 'vitest';
import { tempDir } from './tmp.ts';

export const service = 'test-registry';
export const issuer = 'test-issuer';
/** For how long after `exp` docker-registry still takes a token. */
const leewaySeconds = 60;

export interface TokenQuestion {
  /** `password`, `refresh_token`; `anonymous` for a GET without credentials. */
  readonly grant: string;
  readonly user: string | undefined;
  readonly scopes: readonly string[];
}

export interface TestTokenServer {
  readonly url: string;
  /** PEM, for the registry to trust. */
  readonly certificateFile: string;
  /** Those that were answered with a token. */
  readonly issued: readonly TokenQuestion[];
  /** How often a token was asked for, refused questions included. */
  readonly asked: () => number;
  /** By name; may be changed while it runs. */
  readonly passwords: Map<string, string>;
  /** Token → name. */
  readonly refreshTokens: Map<string, string>;
  /** After how many seconds the registry refuses a token; what the answer says of it when that is something else. */
  lifetimeSeconds: number;
  saidSeconds: number | undefined;
  /** Each use of a refresh token makes it void and gives another. */
  rotates: boolean;
  /** Answers instead, and returns true. */
  fault: (request: IncomingMessage, response: ServerResponse, question: TokenQuestion) => boolean;
}

/** `may`: the actions that somebody (undefined: anybody) is allowed on a resource such as `repository:a/b`. */
export async function startTokenServer(
  may: (user: string | undefined, resource: string) => readonly string[],
): Promise<TestTokenServer> {
  identity ??= makeIdentity();
  const { key, certificate } = identity;
  const certificateFile = path.join(tempDir(), 'certificate.pem');
  writeFileSync(certificateFile, certificate);
  const x5c = [new X509Certificate(certificate).raw.toString('base64')];
  const issued: TokenQuestion[] = [];
  let asked = 0;

  const sign = (user: string | undefined, scopes: readonly string[]): string => {
    const now = Math.floor(Date.now() / 1000);
    const access = scopes.map((scope) => {
      const [, resource = '', wanted = ''] = /^(.*):([^:]*)$/.exec(scope) ?? [];
      const [, type, name] = /^([^:]*):(.*)$/.exec(resource) ?? [];
      const allowed = may(user, resource);
      return { type, name, actions: wanted.split(',').filter((action) => allowed.includes(action)) };
    });
    const claims = {
      iss: issuer,
      aud: service,
      sub: user ?? '',
      iat: now,
      nbf: now - 600,
      exp: now + server.lifetimeSeconds - leewaySeconds,
      jti: randomBytes(8).toString('hex'),
      access,
    };
    const text = [{ typ: 'JWT', alg: 'RS256', x5c }, claims].map(encoded).join('.');
    return `${text}.${createSign('RSA-SHA256').update(text).sign(key, 'base64url')}`;
  };

  const handle = async (request: IncomingMessage, response: ServerResponse) => {
    asked += 1;
    let body = '';
    for await (const chunk of request) body += String(chunk);
    const form = new URLSearchParams(body);
    const query = new URL(`http://x${request.url}`).searchParams;
    const basic = /^Basic (.+)$/.exec(request.headers.authorization ?? '')?.[1];
    const [, name = '', password = ''] = /^([^:]*):(.*)$/s.exec(Buffer.from(basic ?? '', 'base64').toString()) ?? [];
    const post = request.method === 'POST';
    const token = form.get('refresh_token') ?? '';
    const user = post ? server.refreshTokens.get(token) : server.passwords.get(name) === password ? name : undefined;
    const question = {
      grant: post ? (form.get('grant_type') ?? '') : basic === undefined ? 'anonymous' : 'password',
      user,
      scopes: post ? (form.get('scope') ?? '').split(' ').filter((text) => text !== '') : query.getAll('scope'),
    };
    if (server.fault(request, response, question)) return;
    if ((post || basic !== undefined) && user === undefined) {
      response.writeHead(401, { 'content-type': 'application/json' });
      response.end(JSON.stringify({ details: `incorrect username or password: ${password}${token}` }));
      return;
    }
    issued.push(question);
    let refreshToken: string | undefined;
    if (post && server.rotates && user !== undefined) {
      refreshToken = randomBytes(12).toString('hex');
      server.refreshTokens.delete(token);
      server.refreshTokens.set(refreshToken, user);
    }
    const answer = {
      [post ? 'access_token' : 'token']: sign(user, question.scopes),
      expires_in: server.saidSeconds ?? server.lifetimeSeconds,
      issued_at: new Date().toISOString(),
      refresh_token: refreshToken,
    };
    response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(answer));
  };

  const http = createServer((request, response) => void handle(request, response).catch(() => response.destroy()));
  await new Promise<void>((resolve) => void http.listen(0, '127.0.0.1', resolve));
  onTestFinished(async () => {
    const closed = new Promise((resolve) => http.close(resolve));
    http.closeAllConnections();
    await closed;
  });
  const server: TestTokenServer = {
    url: `http://127.0.0.1:${(http.address() as AddressInfo).port}`,
    certificateFile,
    issued,
    asked: () => asked,
    passwords: new Map(),
    refreshTokens: new Map(),
    lifetimeSeconds: 300,
    saidSeconds: undefined,
    rotates: false,
    fault: () => false,
  };
  return server;
}

/** One for all servers of a test file: making a key takes a while. */
let identity: { readonly key: Buffer; readonly certificate: Buffer } | undefined;

function makeIdentity(): { readonly key: Buffer; readonly certificate: Buffer } {
  const dir = tempDir();
  const [keyFile, certificateFile] = [path.join(dir, 'key.pem'), path.join(dir, 'certificate.pem')];
  const request = ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-subj', '/CN=peel test', '-days', '2'];
  execFileSync('openssl', [...request, '-keyout', keyFile, '-out', certificateFile], { stdio: 'ignore' });
  return { key: readFileSync(keyFile), certificate: readFileSync(certificateFile) };
}

function encoded(part: unknown): string {
  return Buffer.from(JSON.stringify(part)).toString('base64url');
}
