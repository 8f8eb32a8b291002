import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { request } from 'node:https';
import type { RequestOptions } from 'node:https';
import path from 'node:path';
import type { TLSSocket } from 'node:tls';
import { describe, expect, it, onTestFinished } from 'vitest';
import { BaseRegistry } from '../../../src/registry/base-registry.ts';
import { serveRegistry } from '../../../src/registry/serve-registry.ts';
import type { ServeOptions } from '../../../src/registry/serve-registry.ts';
import { TestAuthority } from '../../support/certificates.ts';
import { tempDir } from '../../support/tmp.ts';

async function serving(options: ServeOptions) {
  const server = await serveRegistry(new BaseRegistry(), options);
  onTestFinished(async () => await server.close());
  return server;
}

/** Status, and the name of the certificate shown. */
function ask(url: string, options: RequestOptions): Promise<[number, string]> {
  return new Promise((resolve, reject) => {
    const sent = request(`${url}/v2/`, { agent: false, ...options }, (response) => {
      const { subject } = (response.socket as TLSSocket).getPeerCertificate();
      response.resume().once('end', () => resolve([response.statusCode ?? 0, String(subject.CN)]));
    });
    sent.once('error', reject).end();
  });
}

describe('a server with a certificate', () => {
  it('speaks HTTPS with a certificate given as files or as text', async () => {
    const authority = new TestAuthority(tempDir());
    const { certFile, keyFile, pems } = authority.issue('server');
    const ca = readFileSync(authority.caFile, 'utf8');
    for (const tls of [{ cert: certFile, key: keyFile }, pems]) {
      const server = await serving({ tls });
      expect(server.url).toBe(`https://${server.host}`);
      expect(await ask(server.url, { ca })).toEqual([200, 'server']);
      await expect(ask(server.url, {})).rejects.toMatchObject({ code: 'UNABLE_TO_VERIFY_LEAF_SIGNATURE' });
    }
  });

  it('shows the new certificate when the files are replaced, and the old one while they are damaged', async () => {
    const dir = tempDir();
    const authority = new TestAuthority(dir);
    const ca = readFileSync(authority.caFile, 'utf8');
    const [first, second] = [authority.issue('first'), authority.issue('second')];
    const [cert, key] = [path.join(dir, 'live.cert'), path.join(dir, 'live.key')];
    const replace = (file: string, text: string) => {
      writeFileSync(`${file}.new`, text);
      renameSync(`${file}.new`, file);
    };
    replace(cert, first.pems.cert);
    replace(key, first.pems.key);
    const errors: unknown[] = [];
    const server = await serving({
      tls: { cert, key },
      tlsCheckEveryMs: 20,
      onError: (error) => void errors.push(error),
    });
    expect(await ask(server.url, { ca })).toEqual([200, 'first']);
    replace(cert, second.pems.cert);
    await expect.poll(() => errors.length, { timeout: 20_000 }).toBeGreaterThan(0);
    expect(errors[0]).toMatchObject({ code: 'CREDENTIALS_INVALID', message: expect.stringContaining(cert) });
    expect(await ask(server.url, { ca })).toEqual([200, 'first']);
    replace(key, second.pems.key);
    await expect.poll(async () => (await ask(server.url, { ca }))[1], { timeout: 20_000 }).toBe('second');
  });

  it('lets in only whom the authority of clients knows, when there is one', async () => {
    const dir = tempDir();
    const [authority, other] = [new TestAuthority(dir), new TestAuthority(dir, 'other')];
    const server = await serving({
      tls: { ...authority.issue('server').pems, ca: readFileSync(authority.caFile, 'utf8') },
    });
    const ca = readFileSync(authority.caFile, 'utf8');
    expect(await ask(server.url, { ca, ...authority.issue('client').pems })).toEqual([200, 'server']);
    for (const client of [{}, other.issue('stranger').pems])
      await expect(ask(server.url, { ca, ...client })).rejects.toThrow(/ECONNRESET|alert|socket hang up|EPIPE/);
  });

  it('does not start with what is no certificate, or not that of its key', async () => {
    const authority = new TestAuthority(tempDir());
    const [one, two] = [authority.issue('one'), authority.issue('two')];
    const start = (cert: string, key: string) => serveRegistry(new BaseRegistry(), { tls: { cert, key } });
    await expect(start(one.pems.cert, two.pems.key)).rejects.toMatchObject({ code: 'CREDENTIALS_INVALID' });
    await expect(start(one.keyFile, one.keyFile)).rejects.toMatchObject({
      message: `certificate ${one.keyFile} and its key cannot be used`,
    });
    await expect(start('/nowhere/cert', one.keyFile)).rejects.toMatchObject({ code: 'ENOENT' });
  });
});
