// Layers that a registry need not have: what is done with the addresses that an image gives for them.
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { Agent, getGlobalDispatcher, setGlobalDispatcher } from 'undici';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { foreignBlobSource } from '../../src/image/foreign-blob-source.ts';
import { RegistryError } from '../../src/registry/errors.ts';
import { TestAuthority } from '../support/certificates.ts';
import { content, readAll } from '../support/registry-content.ts';
import { keptTempDir } from '../support/tmp.ts';

const blob = content(200_000);
const dir = keptTempDir();
const authority = new TestAuthority(dir.path);
const before = getGlobalDispatcher();
const server = createServer(authority.issue('good').pems, ({ url, headers }, response) => {
  const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(headers.range ?? '') ?? [];
  const [start, end] = first === undefined ? [0, blob.bytes.length] : [Number(first), Number(last) + 1];
  const shift = url === '/shifted' ? 1 : 0;
  const range = { 'content-range': `bytes ${start + shift}-${end - 1 + shift}/${blob.bytes.length}` };
  const body = url === '/missing' ? Buffer.alloc(5_000_000) : blob.bytes.subarray(start, end);
  response.writeHead(url === '/missing' ? 404 : first === undefined ? 200 : 206, {
    'content-length': body.length,
    ...(first === undefined ? {} : range),
  });
  // A refusal that is still under way when it is clear that it is one.
  if (url === '/missing') response.write(body.subarray(0, 1_000));
  else response.end(body);
});
let base: string;

beforeAll(async () => {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  base = `https://127.0.0.1:${(server.address() as AddressInfo).port}`;
  setGlobalDispatcher(new Agent({ connect: { rejectUnauthorized: false } }));
});
afterAll(async () => {
  await getGlobalDispatcher().destroy();
  setGlobalDispatcher(before);
  server.closeAllConnections();
  server.close();
  dir[Symbol.dispose]();
});

function source(...urls: readonly string[]) {
  const none = () => Promise.reject(new RegistryError('BLOB_UNKNOWN', 'not here'));
  return foreignBlobSource({ name: 'here', readRange: none, readAll: none }, { ...blob.descriptor, urls });
}

it('the next address is tried when one is out of reach, lacks the layer or gives other bytes', async () => {
  const here = source('https://127.0.0.1:1/', `${base}/missing`, `${base}/shifted`, `${base}/right`);
  expect(await readAll(await here.readRange(10, 1_000))).toEqual(blob.bytes.subarray(10, 1_000));
  expect(await readAll(await here.readAll())).toEqual(blob.bytes);
});

it('addresses that do not help are named, and what they answered in vain harms nobody', async () => {
  await expect(source('http://plain/', `${base}/missing`).readAll()).rejects.toMatchObject({
    code: 'ERR_IMAGE_LAYER',
    message: expect.stringMatching(/http:\/\/plain\/ is not https; 127\.0\.0\.1:\d+ answered 404/),
  });
  (await source(`${base}/right`).readAll()).close();
});
