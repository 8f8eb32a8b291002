// The embedded server to the letter of the distribution spec, asked with plain fetch and not with our own client.
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import type { Descriptor } from '../../src/oci/descriptor.ts';
import type { Digest } from '../../src/oci/digest.ts';
import { mediaTypes } from '../../src/oci/media-type.ts';
import { BaseRegistry } from '../../src/registry/base-registry.ts';
import { DirRegistry } from '../../src/registry/dir-registry.ts';
import { serveRegistry } from '../../src/registry/serve-registry.ts';
import type { RegistryServer } from '../../src/registry/serve-registry.ts';
import { content, digestOf, manifestOf } from '../support/registry-content.ts';
import type { Content } from '../support/registry-content.ts';
import { keptTempDir } from '../support/tmp.ts';

const dir = keptTempDir();
let server: RegistryServer;
beforeAll(async () => {
  server = await serveRegistry(new DirRegistry(dir.path));
});
afterAll(async () => {
  await server.close();
  await server.close();
  dir[Symbol.dispose]();
});

interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly bytes: Buffer;
  readonly code: string | undefined;
}

async function ask(
  method: string,
  path: string,
  headers: Record<string, string> = {},
  body?: Uint8Array | string,
): Promise<Answer> {
  const url = new URL(path, server.url);
  const response = await fetch(url, {
    method,
    headers,
    redirect: 'manual',
    ...(body === undefined ? {} : { body: Buffer.from(body) }),
  });
  const bytes = Buffer.from(await response.arrayBuffer());
  const isJson = response.headers.get('content-type') === 'application/json' && bytes.length > 0;
  const json = isJson ? (JSON.parse(bytes.toString('utf8')) as { errors?: { code: string }[] }) : undefined;
  return { status: response.status, headers: response.headers, bytes, code: json?.errors?.[0]?.code };
}

async function pushBlob(repository: string, blob: Content): Promise<void> {
  const answer = await ask(
    'POST',
    `/v2/${repository}/blobs/uploads/?digest=${blob.descriptor.digest}`,
    { 'content-type': 'application/octet-stream' },
    blob.bytes,
  );
  expect(answer.status).toBe(201);
}

async function pushManifest(
  repository: string,
  name: string,
  changes: Record<string, unknown> = {},
): Promise<Content & { answer: Answer }> {
  const config = content('{}', mediaTypes.imageConfig);
  await pushBlob(repository, config);
  const manifest = manifestOf(config.descriptor, [], { note: name, ...changes });
  const answer = await ask(
    'PUT',
    `/v2/${repository}/manifests/${name}`,
    { 'content-type': manifest.descriptor.mediaType },
    manifest.bytes,
  );
  return { ...manifest, answer };
}

describe('blobs', () => {
  it('answers the ping and says what it is', async () => {
    const answer = await ask('GET', '/v2/');
    expect(answer.status).toBe(200);
    expect(answer.headers.get('docker-distribution-api-version')).toBe('registry/2.0');
    expect((await ask('GET', '/')).status).toBe(404);
  });

  it('tells length and digest in HEAD without a body', async () => {
    const blob = content(2_048);
    await pushBlob('head', blob);
    const answer = await ask('HEAD', `/v2/head/blobs/${blob.descriptor.digest}`);
    expect(answer).toMatchObject({ status: 200, bytes: Buffer.alloc(0) });
    expect(answer.headers.get('content-length')).toBe('2048');
    expect(answer.headers.get('docker-content-digest')).toBe(blob.descriptor.digest);
    expect(answer.headers.get('accept-ranges')).toBe('bytes');
    expect(await ask('GET', `/v2/head/blobs/${content('other').descriptor.digest}`)).toMatchObject({
      status: 404,
      code: 'BLOB_UNKNOWN',
    });
    expect(await ask('GET', '/v2/head/blobs/sha256:totallywrong')).toMatchObject({
      status: 400,
      code: 'DIGEST_INVALID',
    });
    expect(await ask('GET', `/v2/HEAD/blobs/${blob.descriptor.digest}`)).toMatchObject({
      status: 400,
      code: 'NAME_INVALID',
    });
    expect(await ask('PUT', `/v2/head/blobs/${blob.descriptor.digest}`)).toMatchObject({
      status: 405,
      code: 'UNSUPPORTED',
    });
  });

  it.each([
    ['500-1499', 206, 500, 1_500],
    ['500-', 206, 500, 2_048],
    ['-500', 206, 1_548, 2_048],
    ['2000-5000', 206, 2_000, 2_048],
    ['0-0', 206, 0, 1],
    ['500-0', 416, 0, 0],
    ['5000-10000', 416, 0, 0],
  ])('answers the range %s of 2048 bytes with %s', async (range, status, from, to) => {
    const blob = content(2_048);
    await pushBlob('ranges', blob);
    const answer = await ask('GET', `/v2/ranges/blobs/${blob.descriptor.digest}`, { range: `bytes=${range}` });
    expect(answer.status).toBe(status);
    expect(answer.headers.get('content-range')).toBe(status === 416 ? 'bytes */2048' : `bytes ${from}-${to - 1}/2048`);
    if (status === 206) expect(answer.bytes).toEqual(blob.bytes.subarray(from, to));
    else expect(answer.code).toBe('RANGE_INVALID');
  });

  it('deletes', async () => {
    const blob = content(10);
    await pushBlob('del', blob);
    expect((await ask('DELETE', `/v2/del/blobs/${blob.descriptor.digest}`)).status).toBe(202);
    expect((await ask('HEAD', `/v2/del/blobs/${blob.descriptor.digest}`)).status).toBe(404);
    expect((await ask('DELETE', `/v2/del/blobs/${blob.descriptor.digest}`)).status).toBe(404);
  });
});

describe('uploads', () => {
  const start = async (query = '') => {
    const answer = await ask('POST', `/v2/up/blobs/uploads/${query}`, {}, '');
    expect(answer.status).toBe(202);
    expect(answer.headers.get('range')).toBe('0-0');
    return answer.headers.get('location') ?? '';
  };
  const chunk = (location: string, from: number, bytes: Buffer, method = 'PATCH') =>
    ask(
      method,
      location,
      { 'content-range': `${from}-${from + bytes.length - 1}`, 'content-type': 'application/octet-stream' },
      bytes,
    );
  const finish = (location: string, digest: Digest) => `${location}?digest=${digest}`;

  it.each(['sha256', 'sha512'] as const)('takes a blob under %s in one PUT', async (algorithm) => {
    const { bytes } = content(1_000);
    const digest = digestOf(bytes, algorithm);
    const answer = await ask('PUT', finish(await start(`?digest-algorithm=${algorithm}`), digest), {}, bytes);
    expect(answer.status).toBe(201);
    expect((await ask('GET', answer.headers.get('location') ?? '')).bytes).toEqual(bytes);
  });

  it('takes chunks in order and refuses others, telling where it stands', async () => {
    const blob = content(3_000);
    const location = await start();
    expect((await chunk(location, 1_000, blob.bytes.subarray(1_000, 2_000))).status).toBe(416);
    const first = await chunk(location, 0, blob.bytes.subarray(0, 1_000));
    expect([first.status, first.headers.get('range')]).toEqual([202, '0-999']);
    expect((await chunk(location, 0, blob.bytes.subarray(0, 1_000))).status).toBe(416);
    expect(
      (await chunk(finish(location, blob.descriptor.digest), 2_000, blob.bytes.subarray(2_000), 'PUT')).status,
    ).toBe(416);
    const state = await ask('GET', location);
    expect([state.status, state.headers.get('range'), state.headers.get('location')]).toEqual([204, '0-999', location]);
    expect((await chunk(location, 1_000, blob.bytes.subarray(1_000, 2_000))).status).toBe(202);
    expect(
      (await chunk(finish(location, blob.descriptor.digest), 2_000, blob.bytes.subarray(2_000), 'PUT')).status,
    ).toBe(201);
    expect((await ask('GET', `/v2/up/blobs/${blob.descriptor.digest}`)).bytes).toEqual(blob.bytes);
    expect(await ask('GET', location)).toMatchObject({ status: 404 });
  });

  it('takes a streamed PATCH without Content-Range', async () => {
    const blob = content(1_000);
    const location = await start();
    expect((await ask('PATCH', location, {}, blob.bytes)).status).toBe(202);
    expect((await ask('PUT', finish(location, blob.descriptor.digest), {}, '')).status).toBe(201);
  });

  it.each(['post', 'put', 'chunked'])('refuses a wrong digest (%s)', async (how) => {
    const { digest } = content(5).descriptor;
    const location = how === 'post' ? '/v2/up/blobs/uploads/' : await start();
    if (how === 'chunked') await chunk(location, 0, Buffer.from('abc'));
    const answer = await ask(
      how === 'post' ? 'POST' : 'PUT',
      finish(location, digest),
      {},
      how === 'chunked' ? '' : 'abc',
    );
    expect(answer).toMatchObject({ status: 400, code: 'DIGEST_INVALID' });
    expect((await ask('HEAD', `/v2/up/blobs/${digest}`)).status).toBe(404);
  });

  it.each([
    ['abc', 'BLOB_UPLOAD_INVALID'],
    ['0-10', 'SIZE_INVALID'],
  ])('refuses the content-range %s of three bytes', async (range, code) => {
    expect(await ask('PATCH', await start(), { 'content-range': range }, 'abc')).toMatchObject({ status: 400, code });
  });

  it('mounts, and begins a session for what it cannot mount', async () => {
    const blob = content(100);
    await pushBlob('source', blob);
    const { digest } = blob.descriptor;
    const mounted = await ask('POST', `/v2/up/blobs/uploads/?mount=${digest}&from=source`, {}, '');
    expect([mounted.status, mounted.headers.get('location')]).toEqual([201, `/v2/up/blobs/${digest}`]);
    for (const query of [
      `mount=${digest}`,
      `mount=${content('x').descriptor.digest}&from=source`,
      `mount=${digest}&from=../x`,
    ]) {
      expect((await ask('POST', `/v2/up/blobs/uploads/?${query}`, {}, '')).status).toBe(202);
    }
  });

  it('cancels, and knows nothing of sessions of others', async () => {
    const location = await start();
    expect((await ask('DELETE', location)).status).toBe(204);
    expect(await ask('PATCH', location, {}, 'abc')).toMatchObject({ status: 404, code: 'BLOB_UPLOAD_UNKNOWN' });
    const foreign = Buffer.from('../../../etc/passwd').toString('base64url');
    expect(await ask('GET', `/v2/up/blobs/uploads/${foreign}`)).toMatchObject({
      status: 404,
      code: 'BLOB_UPLOAD_UNKNOWN',
    });
    expect(await ask('PUT', await start(), {}, 'abc')).toMatchObject({ status: 400, code: 'DIGEST_INVALID' });
  });
});

describe('manifests', () => {
  it('answers a push with location, digest and subject', async () => {
    const subject = content('{}', mediaTypes.imageManifest).descriptor;
    const { answer, descriptor, bytes } = await pushManifest('man', 'v1', { subject });
    expect(answer.status).toBe(201);
    expect(answer.headers.get('location')).toBe(`/v2/man/manifests/${descriptor.digest}`);
    expect(answer.headers.get('oci-subject')).toBe(subject.digest);
    const got = await ask('GET', '/v2/man/manifests/v1');
    expect(got.bytes).toEqual(bytes);
    expect(got.headers.get('content-type')).toBe(mediaTypes.imageManifest);
    expect(got.headers.get('docker-content-digest')).toBe(descriptor.digest);
    const head = await ask('HEAD', `/v2/man/manifests/${descriptor.digest}`);
    expect([head.status, head.headers.get('content-length')]).toEqual([200, String(bytes.length)]);
  });

  it('takes one under its sha512', async () => {
    const { bytes } = await pushManifest('man', 'x');
    const digest = digestOf(bytes, 'sha512');
    expect(
      (await ask('PUT', `/v2/man/manifests/${digest}`, { 'content-type': mediaTypes.imageManifest }, bytes)).status,
    ).toBe(201);
    expect((await ask('GET', `/v2/man/manifests/${digest}`)).bytes).toEqual(bytes);
  });

  it('takes 4 MiB and no more', async () => {
    const index = (size: number) => {
      const text = JSON.stringify({
        schemaVersion: 2,
        mediaType: mediaTypes.imageIndex,
        manifests: [],
        annotations: { a: '' },
      });
      return text.replace('"a":""', `"a":"${'x'.repeat(size - text.length)}"`);
    };
    const put = (size: number) =>
      ask('PUT', '/v2/man/manifests/big', { 'content-type': mediaTypes.imageIndex }, index(size));
    expect((await put(4 * 1024 * 1024)).status).toBe(201);
    expect(await put(4 * 1024 * 1024 + 1)).toMatchObject({ status: 413 });
  });

  it.each([
    ['sha256:baddigeststring', mediaTypes.imageManifest, '{}', 400, 'DIGEST_INVALID'],
    [
      content('x').descriptor.digest,
      mediaTypes.imageManifest,
      '{"schemaVersion":2,"config":{}}',
      400,
      'MANIFEST_INVALID',
    ],
    [content('x').descriptor.digest, 'application/vnd.other+json', '{}', 400, 'DIGEST_INVALID'],
    ['.bad', mediaTypes.imageManifest, '{}', 400, 'TAG_INVALID'],
    ['v1', mediaTypes.imageIndex, '{"schemaVersion":2,"layers":[],"config":{}}', 400, 'MANIFEST_INVALID'],
  ])('refuses to keep %s', async (name, type, body, status, code) => {
    expect(await ask('PUT', `/v2/man/manifests/${name}`, { 'content-type': type }, body)).toMatchObject({
      status,
      code,
    });
  });

  it('deletes a manifest, its tags and its place among the referrers', async () => {
    const { descriptor: subject } = await pushManifest('mdel', 'image');
    const { descriptor } = await pushManifest('mdel', 'ref', { subject, artifactType: 'a/b' });
    expect((await ask('DELETE', `/v2/mdel/manifests/${descriptor.digest}`)).status).toBe(202);
    expect((await ask('GET', '/v2/mdel/manifests/ref')).status).toBe(404);
    const referrers = await ask('GET', `/v2/mdel/referrers/${subject.digest}`);
    expect(JSON.parse(referrers.bytes.toString('utf8'))).toMatchObject({ manifests: [] });
    expect((await ask('DELETE', '/v2/mdel/manifests/image')).status).toBe(202);
    expect((await ask('GET', `/v2/mdel/manifests/${subject.digest}`)).status).toBe(200);
  });
});

describe('lists', () => {
  const tagsOf = (answer: Answer) => (JSON.parse(answer.bytes.toString('utf8')) as { tags: string[] }).tags;

  it('splits the tags where it is told', async () => {
    for (const tag of ['c', 'a', 'b']) await pushManifest('list', tag);
    expect(tagsOf(await ask('GET', '/v2/list/tags/list'))).toEqual(['a', 'b', 'c']);
    const page = await ask('GET', '/v2/list/tags/list?n=2');
    expect(tagsOf(page)).toEqual(['a', 'b']);
    const next = /^<([^>]+)>; rel="next"$/.exec(page.headers.get('link') ?? '')?.[1] ?? '';
    const last = await ask('GET', next);
    expect([tagsOf(last), last.headers.get('link')]).toEqual([['c'], null]);
    expect(tagsOf(await ask('GET', '/v2/list/tags/list?last=a'))).toEqual(['b', 'c']);
    const none = await ask('GET', '/v2/list/tags/list?n=0');
    expect([tagsOf(none), none.headers.get('link')]).toEqual([[], null]);
    expect((await ask('GET', '/v2/list/tags/list?n=x')).status).toBeGreaterThanOrEqual(400);
    expect(await ask('GET', '/v2/nowhere/tags/list')).toMatchObject({ status: 404, code: 'NAME_UNKNOWN' });
  });

  it('answers referrers as an index, filtered when asked', async () => {
    const { descriptor: subject } = await pushManifest('refs', 'image');
    for (const type of ['a/one', 'a/two'])
      await pushManifest('refs', type.replace('/', '-'), { subject, artifactType: type, annotations: { type } });
    const path = `/v2/refs/referrers/${subject.digest}`;
    const all = await ask('GET', path);
    expect(all.headers.get('content-type')).toBe(mediaTypes.imageIndex);
    expect(all.headers.get('oci-filters-applied')).toBeNull();
    const manifests = (answer: Answer) =>
      (JSON.parse(answer.bytes.toString('utf8')) as { manifests: Descriptor[] }).manifests;
    expect(manifests(all)).toHaveLength(2);
    const filtered = await ask('GET', `${path}?artifactType=a/two`);
    expect(filtered.headers.get('oci-filters-applied')).toBe('artifactType');
    expect(manifests(filtered).map(({ artifactType, annotations }) => [artifactType, annotations])).toEqual([
      ['a/two', { type: 'a/two' }],
    ]);
    const unknown = await ask('GET', `/v2/unknown/referrers/${subject.digest}`);
    expect([unknown.status, manifests(unknown)]).toEqual([200, []]);
  });
});

describe('any registry', () => {
  it('is served, and its failures tell nothing of the inside', async () => {
    class Generated extends BaseRegistry {
      override resolveBlob(_repository: string, digest: Digest): Promise<Descriptor> {
        return digest.endsWith('0')
          ? Promise.reject(new Error('/secret/path'))
          : Promise.resolve({ mediaType: 'a/b', digest, size: 2 ** 40 });
      }
    }
    const failures: unknown[] = [];
    const other = await serveRegistry(new Generated(), {
      listen: '[::1]:0',
      onError: (error) => void failures.push(error),
    });
    onTestFinished(async () => await other.close());
    expect(other.url).toMatch(/^http:\/\/\[::1\]:\d+$/);
    const head = await fetch(`${other.url}/v2/a/blobs/sha256:${'1'.repeat(64)}`, { method: 'HEAD' });
    expect(head.headers.get('content-length')).toBe(String(2 ** 40));
    const failed = await fetch(`${other.url}/v2/a/blobs/sha256:${'0'.repeat(64)}`);
    expect([failed.status, await failed.text()]).toEqual([
      500,
      '{"errors":[{"code":"UNKNOWN","message":"internal error"}]}',
    ]);
    expect(failures).toHaveLength(1);
    expect((await fetch(`${other.url}/v2/a/tags/list`)).status).toBe(405);
  });

  it.each(['', '80', 'host', 'host:99999', 'a:b:c', '[::1]'])('is not served at %j', async (listen) => {
    await expect(serveRegistry(new BaseRegistry(), { listen })).rejects.toThrow(TypeError);
  });

  it('says that an address is taken', async () => {
    await expect(serveRegistry(new BaseRegistry(), { listen: server.host })).rejects.toMatchObject({
      code: 'EADDRINUSE',
    });
  });
});
