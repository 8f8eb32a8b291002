// The control API of a real daemon, asked for what nobody would ask: every request has an answer that says what is wrong, and the daemon goes on.
import { connect } from 'node:net';
import * as fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { DaemonProcess } from '../support/daemon-process.ts';
import { rounds } from '../support/fixtures.ts';
import { PeelNode } from '../support/peel-node.ts';

const node = new PeelNode();
let daemon: DaemonProcess;
beforeAll(async () => {
  daemon = await DaemonProcess.start(node, {});
});
afterAll(() => node.close());

const secret = 'hunter2-hunter2';
const numRuns = rounds(2_000, 150, 0.1);

const paths = ['status', 'version', 'mounts', 'unmount', 'pulls', 'pulls/answers', 'pulls/stop', 'logs', 'credentials'];
const path = fc.oneof(
  { weight: 8, arbitrary: fc.constantFrom(...paths.map((name) => `/v1/${name}`), '/metrics') },
  fc.constantFrom(
    '/',
    '//',
    '/v1',
    '/v1/../v1/status',
    '/v1/%00',
    '/v1/__proto__',
    '/v1/logs?tail=1e99',
    '/v1/logs?tail=-1',
    '*',
    'http://[',
  ),
  fc.webPath(),
);
const method = fc.constantFrom('GET', 'POST', 'PUT', 'DELETE', 'HEAD', 'OPTIONS', 'BREW');

const value: fc.Arbitrary<unknown> = fc.oneof(
  // What is right somewhere, but leads nowhere on this machine.
  fc.constantFrom('/nonexistent', 'oci:/nonexistent:a', 'default', 'never', 'linux/amd64', '127.0.0.1:1/a:b', secret),
  fc.constantFrom('/a\0b', '../a', '', 'a'.repeat(5_000), `sha256:${'0'.repeat(64)}`),
  fc.jsonValue({ maxDepth: 2 }),
);
const fields = ['reference', 'dir', 'image', 'username', 'password', 'detach', 'address', 'namespace', 'snapshotter'];
const more = [
  'hasCredentials',
  'variables',
  'place',
  'pull',
  'ask',
  'user',
  'error',
  'transport',
  'upper',
  '__proto__',
];
const body = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.dictionary(fc.constantFrom(...fields, ...more), value).map((object) => JSON.stringify(object)),
  },
  fc.json({ maxDepth: 4 }),
  fc.string({ maxLength: 200, unit: 'binary' }),
  fc.constantFrom('['.repeat(60_000), `{"dir":"${'/a'.repeat(40_000)}"}`, ''),
);

/** The request as it is: no client puts it right. Returns all that comes until the end; with `end` nothing more can come from here. */
async function send(request: string, { end }: { readonly end: boolean }): Promise<string> {
  const socket = connect(daemon.socket);
  const chunks: Buffer[] = [];
  socket.on('data', (chunk) => chunks.push(chunk));
  // A connection is closed over what nobody wants to read of a body; the answer came before.
  socket.on('error', () => {});
  if (end) socket.end(request, 'latin1');
  else socket.write(request, 'latin1');
  await new Promise<void>((resolve) => void socket.once('close', () => resolve()));
  return Buffer.concat(chunks).toString();
}

describe('a request with anything in it', () => {
  it('is answered with what is wrong, or ends the connection, and nothing else', { timeout: 120_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(method, path, body, async (verb, target, content) => {
        const length = Buffer.byteLength(content, 'latin1');
        const answer = await send(
          `${verb} ${target} HTTP/1.1\r\nhost: peel\r\nconnection: close\r\ncontent-length: ${length}\r\n\r\n${content}`,
          { end: false },
        );
        const [, status] = /^HTTP\/1\.1 (\d{3}) /.exec(answer) ?? [];
        expect(status, answer.slice(0, 400)).toMatch(/^(2..|4..|501)$/);
        expect(answer).not.toContain(secret);
      }),
      { numRuns },
    );
    expect(JSON.parse(await node.ok(['status', '--json']))).toMatchObject({ pid: daemon.pid });
  });

  it('is answered too when it is no HTTP at all', async () => {
    await fc.assert(
      fc.asyncProperty(fc.string({ maxLength: 400, unit: 'binary' }), async (bytes) => {
        expect(await send(bytes, { end: true })).toMatch(/^(HTTP\/1\.1 4|$)/);
      }),
      { numRuns },
    );
    expect(JSON.parse(await node.ok(['status', '--json']))).toMatchObject({ pid: daemon.pid });
  });
});
