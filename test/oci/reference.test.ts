import { describe, expect, it } from 'vitest';
import { formatReference, isRegistryHost, parseReference } from '../../src/oci/reference.ts';

const hex = 'a'.repeat(64);
const digest = `sha256:${hex}`;

describe('parseReference', () => {
  it.each([
    ['debian', 'docker.io/library/debian:latest'],
    ['debian:12', 'docker.io/library/debian:12'],
    ['user/app', 'docker.io/user/app:latest'],
    ['index.docker.io/debian', 'docker.io/library/debian:latest'],
    ['docker.io/debian', 'docker.io/library/debian:latest'],
    [`debian@${digest}`, `docker.io/library/debian@${digest}`],
    [`debian:12@${digest}`, `docker.io/library/debian:12@${digest}`],
    ['localhost/app', 'localhost/app:latest'],
    ['localhost:5000/app:x', 'localhost:5000/app:x'],
    ['test:5000/repo', 'test:5000/repo:latest'],
    ['test.com:5000', 'docker.io/library/test.com:5000'],
    ['192.168.1.1:5000', 'docker.io/library/192.168.1.1:5000'],
    ['192.168.1.1:5000/a/b', '192.168.1.1:5000/a/b:latest'],
    ['[::1]:5000/a', '[::1]:5000/a:latest'],
    ['[2001:db8::1]/a', '[2001:db8::1]/a:latest'],
    ['Foo/bar', 'Foo/bar:latest'],
    ['ghcr.io/a/b-c/d__e.f:v1.0-x_Y', 'ghcr.io/a/b-c/d__e.f:v1.0-x_Y'],
    ['a--b/c', 'docker.io/a--b/c:latest'],
    ['xn--n3h.com/myimage', 'xn--n3h.com/myimage:latest'],
    [`r.io/a@sha512:${'b'.repeat(128)}`, `r.io/a@sha512:${'b'.repeat(128)}`],
    ['oci:/images/one', 'oci:/images/one'],
    ['oci:/images/one/:tag', 'oci:/images/one:tag'],
    ['oci:rel/one:1.2', 'oci:rel/one:1.2'],
    [`oci:one@${digest}`, `oci:one@${digest}`],
    [`oci:one:tag@${digest}`, `oci:one:tag@${digest}`],
    ['oci:/a:b/c', 'oci:/a:b/c'],
    ['oci:/a:b/', 'oci:/a:b/'],
    ['oci:/user@host', 'oci:/user@host/'],
    ['oci:/', 'oci:/'],
    ['oci:///', 'oci:/'],
    ['oci:.', 'oci:.'],
    ['oci-archive:/images/one.tar', 'oci-archive:/images/one.tar'],
    ['oci-archive:one.tar:1.2', 'oci-archive:one.tar:1.2'],
    [`oci-archive:one.tar:tag@${digest}`, `oci-archive:one.tar:tag@${digest}`],
    ['oci-archive:/a:b/:t', 'oci-archive:/a:b/:t'],
    ['oci-archive:/user@host.tar', 'oci-archive:/user@host.tar/'],
  ])('reads %s as %s', (text, full) => {
    const reference = parseReference(text);
    expect(formatReference(reference)).toBe(full);
    expect(parseReference(full)).toEqual(reference);
  });

  it('keeps tag and digest apart', () => {
    expect(parseReference(`r.io/a:t@${digest}`)).toEqual({
      kind: 'registry',
      host: 'r.io',
      repository: 'a',
      tag: 't',
      digest,
    });
    expect(parseReference('oci:/d:t')).toEqual({ kind: 'layout', dir: '/d', tag: 't', digest: undefined });
    expect(parseReference('oci-archive:/f.tar:t')).toEqual({
      kind: 'archive',
      file: '/f.tar',
      tag: 't',
      digest: undefined,
    });
  });

  it.each([
    ['', 'empty'],
    ['Debian', 'lower case'],
    ['r.io/App', 'lower case'],
    ['/debian', 'not a repository'],
    ['debian/', 'not a repository'],
    ['r.io/', 'names no repository'],
    [':tag', 'names no repository'],
    ['a//b', 'not a repository'],
    ['a..b', 'not a repository'],
    ['a___b', 'not a repository'],
    ['-a', 'not a repository'],
    ['a-', 'not a repository'],
    ['debian:', 'not a tag'],
    ['debian:.x', 'not a tag'],
    [`debian:${'t'.repeat(129)}`, 'not a tag'],
    ['debian@sha256:abc', 'not a digest'],
    [`debian@SHA256:${hex}`, 'not a digest'],
    [`debian@md5:${hex}`, 'not a digest'],
    ['debian@', 'not a digest'],
    [hex, 'image id'],
    ['https://docker.io/debian', 'not a host'],
    ['-r.io/a', 'not a host'],
    ['r.io:99999/a', 'not a host'],
    ['r.io:0/a', 'not a host'],
    ['[::1/a', 'not a host'],
    ['[fe80::1%25lo]:5000/a', 'not a host'],
    ['user:secret@r.io/a', 'not a digest'],
    ['r.io/a b', 'not a repository'],
    ['r.io/a?x=1', 'not a repository'],
    ['r.io/../a', 'not a repository'],
    [`r.io/${'a'.repeat(256)}`, 'more than 255'],
    ['a'.repeat(5000), 'more than 4096'],
    ['oci:', 'names no directory'],
    ['oci::tag', 'names no directory'],
    ['oci:/d:', 'not a tag'],
    ['oci:/d@sha256:abc', 'not a digest'],
    ['oci:/d\0', 'NUL'],
    ['oci-archive:', 'names no file'],
    ['oci-archive:/f.tar:', 'not a tag'],
    ['oci-archive:/f.tar@sha256:abc', 'not a digest'],
    ['oci-archive:/f\0', 'NUL'],
  ])('refuses %s because it is %s', (text, why) => {
    expect(() => parseReference(text)).toThrow(
      expect.objectContaining({ code: 'ERR_OCI_REFERENCE', message: expect.stringContaining(why) }),
    );
  });

  it('answers hostile input without trying every way to split it', () => {
    for (const text of ['-'.repeat(4000), `${'a-'.repeat(2000)}/`, `${'a.'.repeat(2000)}!/x`]) {
      expect(() => parseReference(text)).toThrow('not an image reference');
    }
    parseReference(`oci:${'/'.repeat(4000)}x`);
  });
});

describe('isRegistryHost', () => {
  it.each([
    ['r.io', true],
    ['localhost:1', true],
    ['[::1]', true],
    ['[zz]', false],
    ['a_b.io', false],
    ['r.io/', false],
    ['', false],
    ['a..b', false],
  ])('%s: %s', (host, valid) => {
    expect(isRegistryHost(host)).toBe(valid);
  });
});
