import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseChallenges } from '../../src/registry/auth/challenge.ts';
import { Scope } from '../../src/registry/auth/scope.ts';
import { endpointOf } from '../../src/registry/client/endpoint.ts';
import { nextPage } from '../../src/registry/client/link.ts';
import { formatRange, parseContentRange } from '../../src/registry/client/range.ts';
import { withDigest } from '../../src/registry/client/uploads.ts';
import { parseRangeHeader } from '../../src/registry/server/range-header.ts';
import { parseRoute } from '../../src/registry/server/route.ts';
import { parseDigest } from '../../src/oci/digest.ts';

describe('parseChallenges', () => {
  it.each<[string, [string, Record<string, string>][]]>([
    ['Basic realm="x"', [['basic', { realm: 'x' }]]],
    [
      'Bearer realm="https://a/t",service="s",scope="repository:a/b:pull,push"',
      [['bearer', { realm: 'https://a/t', service: 's', scope: 'repository:a/b:pull,push' }]],
    ],
    [
      'Basic realm="x", Bearer realm="y", scope=z',
      [
        ['basic', { realm: 'x' }],
        ['bearer', { realm: 'y', scope: 'z' }],
      ],
    ],
    [
      'Negotiate, Basic realm=x',
      [
        ['negotiate', {}],
        ['basic', { realm: 'x' }],
      ],
    ],
    ['BEARER Realm = "a\\"b" , Service=s', [['bearer', { realm: 'a"b', service: 's' }]]],
    [', ,Basic realm="a, b=c"', [['basic', { realm: 'a, b=c' }]]],
    ['Bearer realm="unfinished', [['bearer', { realm: 'unfinished' }]]],
    ['', []],
    ['"', []],
  ])('reads %s', (header, expected) => {
    expect(parseChallenges(header).map(({ scheme, parameters }) => [scheme, Object.fromEntries(parameters)])).toEqual(
      expected,
    );
  });

  it('ends for any text', () => {
    fc.assert(fc.property(fc.string({ unit: 'binary' }), (text) => parseChallenges(text).length >= 0));
  });
});

describe('Scope', () => {
  it('unites, compares and writes itself in one order', () => {
    const scope = Scope.parse('repository:b:push,pull repository:a:pull').union(Scope.repository('a', 'delete'));
    expect(scope.toString()).toBe('repository:a:delete,pull repository:b:pull,push');
    expect(scope.contains(Scope.repository('b', 'pull'))).toBe(true);
    expect(scope.contains(Scope.repository('b', 'pull', 'delete'))).toBe(false);
    expect(scope.contains(Scope.repository('c', 'pull'))).toBe(false);
    expect(Scope.parse('repository:b:*').contains(Scope.repository('b', 'pull'))).toBe(true);
    expect(Scope.parse('repository:host:5000/a:pull').resources[0]?.resource).toBe('repository:host:5000/a');
    expect(Scope.parse('registry:catalog:*').toString()).toBe('registry:catalog:*');
  });
});

describe('endpointOf', () => {
  it.each([
    ['docker.io', 'auto', 'https://registry-1.docker.io/'],
    ['ghcr.io', 'auto', 'https://ghcr.io/'],
    ['r.io:5000', true, 'http://r.io:5000/'],
    ['localhost', 'auto', 'http://localhost/'],
    ['localhost:5000', 'auto', 'http://localhost:5000/'],
    ['LOCALHOST:5000', 'auto', 'http://localhost:5000/'],
    ['127.1.2.3:5000', 'auto', 'http://127.1.2.3:5000/'],
    ['[::1]:5000', 'auto', 'http://[::1]:5000/'],
    ['127.0.0.1:5000', false, 'https://127.0.0.1:5000/'],
    ['127.0.0.1.evil.example', 'auto', 'https://127.0.0.1.evil.example/'],
    ['localhost.example', 'auto', 'https://localhost.example/'],
    ['[2001:db8::1]', 'auto', 'https://[2001:db8::1]/'],
  ] as const)('of %s (%s) is %s', (host, plain, url) => {
    expect(endpointOf(host, plain).href).toBe(url);
  });

  it.each(['', 'a/b', 'user@host', 'host?x', 'host#x', 'a b'])('refuses %j', (host) => {
    expect(() => endpointOf(host, 'auto')).toThrow(TypeError);
  });
});

describe('nextPage', () => {
  const url = new URL('https://r.io/v2/a/tags/list?n=2');
  it.each([
    ['</v2/a/tags/list?n=2&last=b>; rel="next"', 'https://r.io/v2/a/tags/list?n=2&last=b'],
    ['<list?last=b>;rel=next', 'https://r.io/v2/a/tags/list?last=b'],
    ['<https://r.io/x>; title="a"; rel="prev next"', 'https://r.io/x'],
    ['</first>; rel="first", </n>; rel="next"', 'https://r.io/n'],
    ['</prev>; rel="prev"', undefined],
    ['<https://evil.example/x>; rel="next"', undefined],
    ['<http://r.io/x>; rel="next"', undefined],
    ['</x>; rel="nextish"', undefined],
    ['nonsense', undefined],
    ['<http://[>; rel="next"', undefined],
  ])('of %s is %s', (link, next) => {
    expect(nextPage({ url, headers: () => [link] })?.href).toBe(next);
  });
});

describe('ranges', () => {
  it.each([
    ['bytes 0-0/1', { start: 0, end: 1, total: 1 }],
    ['bytes 5-9/*', { start: 5, end: 10, total: undefined }],
    ['bytes 5-4/10', undefined],
    ['bytes 5-10/10', undefined],
    ['bytes */10', undefined],
    ['bytes 0-9007199254740993/9007199254740999', undefined],
    ['items 0-1/2', undefined],
    ['bytes 0-1', undefined],
    ['bytes -1-1/2', undefined],
    [undefined, undefined],
  ])('content-range %s', (text, expected) => {
    expect(parseContentRange(text)).toEqual(expected);
  });

  it.each([
    [undefined, 'whole'],
    ['bytes=0-', { start: 0, end: 2_048 }],
    ['bytes=500-1499', { start: 500, end: 1_500 }],
    ['bytes=500-', { start: 500, end: 2_048 }],
    ['bytes=-500', { start: 1_548, end: 2_048 }],
    ['bytes=-5000', { start: 0, end: 2_048 }],
    ['bytes=2000-5000', { start: 2_000, end: 2_048 }],
    ['Bytes=1-1', { start: 1, end: 2 }],
    ['bytes=500-0', 'unsatisfiable'],
    ['bytes=5000-10000', 'unsatisfiable'],
    ['bytes=2048-', 'unsatisfiable'],
    ['bytes=-0', 'unsatisfiable'],
    ['bytes=-', 'unsatisfiable'],
    ['bytes=a-b', 'unsatisfiable'],
    ['bytes=0-1,5-6', 'whole'],
    ['lines=0-1', 'whole'],
  ])('range header %s of 2048 bytes', (header, expected) => {
    expect(parseRangeHeader(header, 2_048)).toEqual(expected);
  });

  it('asked for by the client are those the server reads', () => {
    fc.assert(
      fc.property(fc.nat(5_000), fc.integer({ min: 1, max: 5_000 }), (start, length) => {
        const read = parseRangeHeader(formatRange(start, start + length), 20_000);
        expect(read).toEqual({ start, end: start + length });
      }),
    );
  });
});

describe('parseRoute', () => {
  const digest = `sha256:${'a'.repeat(64)}`;
  it.each([
    ['/v2', { kind: 'ping' }],
    ['/v2/', { kind: 'ping' }],
    ['/v2/_catalog', { kind: 'catalog' }],
    ['/v2/a/tags/list', { kind: 'tags', repository: 'a' }],
    ['/v2/a/b/manifests/v1', { kind: 'manifest', repository: 'a/b', name: 'v1' }],
    [`/v2/a/manifests/sha256%3A${'a'.repeat(64)}`, { kind: 'manifest', repository: 'a', name: digest }],
    [`/v2/a/blobs/${digest}`, { kind: 'blob', repository: 'a', digest }],
    ['/v2/a/blobs/uploads', { kind: 'uploads', repository: 'a' }],
    ['/v2/a/blobs/uploads/', { kind: 'uploads', repository: 'a' }],
    ['/v2/a/blobs/uploads/xyz', { kind: 'upload', repository: 'a', id: 'xyz' }],
    [`/v2/a/referrers/${digest}`, { kind: 'referrers', repository: 'a', digest }],
    [`/v2/blobs/manifests/tags/blobs/${digest}`, { kind: 'blob', repository: 'blobs/manifests/tags', digest }],
    ['/v1/', undefined],
    ['/v2/a', undefined],
    ['/v2/a/tags/other', undefined],
    ['/', undefined],
  ])('of %s', (path, expected) => {
    expect(parseRoute(path)).toEqual(expected);
  });

  it.each([
    '/v2/A/tags/list',
    '/v2/../etc/tags/list',
    '/v2/a//b/tags/list',
    '/v2/%2e%2e/tags/list',
    '/v2/%zz/tags/list',
    '/v2/_x/blobs/uploads/',
  ])('refuses %s', (path) => {
    expect(() => parseRoute(path)).toThrow(expect.objectContaining({ code: 'NAME_INVALID' }));
  });
});

describe('withDigest', () => {
  it('keeps the query as it was signed', () => {
    const digest = parseDigest(`sha256:${'a'.repeat(64)}`);
    expect(withDigest(new URL('http://r.io/u?_state=a%2Bb~c&x'), digest).href).toBe(
      `http://r.io/u?_state=a%2Bb~c&x&digest=sha256%3A${'a'.repeat(64)}`,
    );
    expect(withDigest(new URL('http://r.io/u'), digest).href).toBe(`http://r.io/u?digest=sha256%3A${'a'.repeat(64)}`);
  });
});
