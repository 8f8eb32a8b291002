// containerd's hosts.toml and docker's certificate folders, as files on disk.
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { RegistryError } from '../../src/registry/errors.ts';
import { findHostConfig } from '../../src/registry/hosts/find-host-config.ts';
import { parseHostsFile } from '../../src/registry/hosts/hosts-file.ts';
import { tempDir } from '../support/tmp.ts';

const file = '/etc/containerd/certs.d/registry.example/hosts.toml';
const parse = (text: string) => parseHostsFile(text, file);
const last = (text: string) => parse(text).endpoints.at(-1);

describe('hosts.toml', () => {
  it('lists mirrors in their order and the registry last', () => {
    const { endpoints, warnings } = parse(`
      server = "https://registry.example"
      [host."https://z.example"]
        capabilities = ["pull"]
        [host."https://z.example".header]
          x-key = "z"
      [host."http://a.example:5000"]
        capabilities = ["Pull", "resolve"]
      [host."m.example"]
    `);
    expect(endpoints.map(({ url }) => url?.href)).toEqual([
      'https://z.example/v2',
      'http://a.example:5000/v2',
      'https://m.example/v2',
      'https://registry.example/v2',
    ]);
    expect(endpoints.map(({ capabilities }) => [...capabilities].join(' '))).toEqual([
      'pull',
      'pull resolve',
      'pull resolve push',
      'pull resolve push',
    ]);
    expect(endpoints[0]?.headers).toEqual({ 'x-key': 'z' });
    expect(warnings).toEqual([]);
  });

  it('may say what containerd 2 says of referrers', () => {
    const { endpoints } = parse('[host."https://m.example"]\ncapabilities = ["pull", "referrers"]');
    expect([...(endpoints[0]?.capabilities ?? [])]).toEqual(['pull']);
  });

  it('without a server ends with the registry itself, which can do everything', () => {
    const { endpoints } = parse('capabilities = ["pull"]\nca = "ca.pem"\n[host."https://m.example"]');
    expect(endpoints).toHaveLength(2);
    expect(endpoints[1]?.url).toBeUndefined();
    expect([...(endpoints[1]?.capabilities ?? [])]).toEqual(['pull', 'resolve', 'push']);
    expect(endpoints[1]?.caFiles).toEqual([`${path.dirname(file)}/ca.pem`]);
  });

  it.each<[string, boolean, string]>([
    ['https://m.example', false, 'https://m.example/v2'],
    ['https://m.example/', false, 'https://m.example/v2'],
    ['https://m.example/v2', false, 'https://m.example/v2'],
    ['https://m.example/v2/', false, 'https://m.example/v2'],
    ['https://m.example/hub', false, 'https://m.example/hub/v2'],
    ['https://m.example/a/../hub', false, 'https://m.example/hub/v2'],
    ['https://m.example', true, 'https://m.example/'],
    ['https://m.example/v2/hub', true, 'https://m.example/v2/hub'],
    ['https://u:p@m.example/hub?q#f', true, 'https://m.example/hub'],
    ['[::1]:5000', false, 'https://[::1]:5000/v2'],
  ])('takes %s with override_path %s for %s', (server, override, href) => {
    expect(last(`server = ${JSON.stringify(server)}\noverride_path = ${override}`)?.url?.href).toBe(href);
  });

  it.each<[string, string, unknown]>([
    ['ca = "/a.pem"', 'caFiles', ['/a.pem']],
    ['ca = ["/a.pem", "../b.pem"]', 'caFiles', ['/a.pem', '/etc/containerd/certs.d/b.pem']],
    ['client = "/a.pem"', 'clientCertificates', [{ certFile: '/a.pem', keyFile: undefined }]],
    [
      'client = ["/a.pem", "/b.pem"]',
      'clientCertificates',
      [
        { certFile: '/a.pem', keyFile: undefined },
        { certFile: '/b.pem', keyFile: undefined },
      ],
    ],
    [
      'client = [["/a.cert", "/a.key"], ["/b.pem", ""]]',
      'clientCertificates',
      [
        { certFile: '/a.cert', keyFile: '/a.key' },
        { certFile: '/b.pem', keyFile: undefined },
      ],
    ],
    ['skip_verify = true', 'skipVerify', true],
    ['', 'skipVerify', undefined],
    ['[header]\nX-One = "a"\nx-two = ["b", "c"]', 'headers', { 'x-one': 'a', 'x-two': 'b, c' }],
    ['dial_timeout = "1m30.5s"', 'connectTimeoutMs', 90_500],
    ['dial_timeout = "250ms"', 'connectTimeoutMs', 250],
    ['proxy = "http://proxy:3128"', 'proxy', new URL('http://proxy:3128')],
  ])('reads %s', (text, key, expected) => {
    expect(last(text)).toMatchObject({ [key]: expected });
  });

  it.each<[string, string]>([
    ['ca = 1', `${file}: ca: expected a text or a list of texts`],
    ['ca = [""]', `${file}: ca: expected`],
    ['client = [["a"]]', `${file}: client: expected`],
    ['client = [["a", "b", "c"]]', `${file}: client: expected a file`],
    ['client = 5', `${file}: client: expected`],
    ['skip_verify = "yes"', `${file}: skip_verify: expected true or false`],
    ['server = "ftp://x"', `${file}: server: expected the URL of a registry`],
    ['server = "http://"', `${file}: server: expected the URL of a registry`],
    ['server = 5', `${file}: server: expected a text`],
    ['host = "https://m.example"', `${file}: host: expected a table`],
    ['[host]\n"https://m.example" = 1', `${file}: host."https://m.example": expected a table`],
    ['[host."https://[m"]', `${file}: host."https://[m": expected the URL`],
    [
      '[host."https://m.example"]\ncapabilities = ["pull", "fly"]',
      `${file}: host."https://m.example".capabilities: expected a list of "pull", "resolve" and "push"`,
    ],
    ['server = "https://m.example"\ncapabilities = "all"', `${file}: capabilities: expected`],
    ['[header]\nx = 1', `${file}: header.x: expected`],
    ['[header]\nx = "a\\nb"', `${file}: header.x: expected a text without control characters`],
    ['[header]\n"x y" = "a"', `${file}: header.x y: expected the name of a header`],
    ['[header]\nHost = "a"', `${file}: header.Host: expected the name of a header that may be set`],
    ['[host."https://m.example".header]\nx = 1', `${file}: host."https://m.example".header.x: expected`],
    ['dial_timeout = "soon"', `${file}: dial_timeout: expected a duration like "1s"`],
    ['dial_timeout = "0s"', `${file}: dial_timeout: expected a duration`],
    ['dial_timeout = "1s5"', `${file}: dial_timeout: expected a duration`],
    ['proxy = "socks5://u:s3cret@p"', `${file}: proxy: expected the address of a proxy`],
    ['skip_verify = true\nserver = "a"\nserver = "b"', `${file}:3:`],
    ['[header]\nx-key = "s3cret', `${file}:2:`],
  ])('refuses %s naming file, key and what was expected', (text, message) => {
    try {
      parse(text);
      expect.unreachable();
    } catch (error) {
      expect(error).toMatchObject({ name: 'RegistryError', code: 'CONFIG_INVALID' });
      expect((error as Error).message).toContain(message);
      expect(JSON.stringify(error, Object.getOwnPropertyNames(error))).not.toContain('s3cret');
    }
  });

  it('says of keys it does not know that they have no effect', () => {
    const { warnings } = parse('servr = "x"\n[host."https://m.example"]\nskipverify = true');
    expect(warnings).toEqual([
      `${file}: servr is not known and has no effect`,
      `${file}: host."https://m.example".skipverify is not known and has no effect`,
    ]);
  });

  it('is read or refused, whatever stands in it', () => {
    const value = fc.oneof(
      fc.string(),
      fc.integer(),
      fc.boolean(),
      fc.array(fc.oneof(fc.string(), fc.integer(), fc.array(fc.string(), { maxLength: 3 })), { maxLength: 3 }),
    );
    const key = fc.constantFrom('server', 'ca', 'client', 'skip_verify', 'capabilities', 'dial_timeout', 'proxy', 'x');
    const line = fc.tuple(key, value).map(([name, content]) => `${name} = ${JSON.stringify(content)}`);
    const header = fc.string().map((name) => `[host.${JSON.stringify(name)}]`);
    const text = fc.array(fc.oneof({ arbitrary: line, weight: 3 }, header, fc.string()), { maxLength: 6 });
    fc.assert(
      fc.property(text, (lines) => {
        try {
          for (const { url } of parse(lines.join('\n')).endpoints)
            expect(url === undefined || /^https?:$/.test(url.protocol)).toBe(true);
        } catch (error) {
          if (!(error instanceof RegistryError)) throw error;
          expect(error.message.startsWith(file)).toBe(true);
        }
      }),
    );
  });
});

describe('certs.d', () => {
  const write = (dir: string, name: string, text = '') => {
    mkdirSync(path.dirname(path.join(dir, name)), { recursive: true });
    writeFileSync(path.join(dir, name), text);
  };
  const urlOf = async (host: string, ...dirs: string[]) => (await findHostConfig(host, dirs))?.endpoints[0]?.url?.host;

  it('is searched for the host with its port, then for any host', async () => {
    const dir = tempDir();
    expect(await findHostConfig('registry.example:5000', [dir, path.join(dir, 'missing')])).toBeUndefined();
    write(dir, '_default/hosts.toml', 'server = "any"');
    expect(await urlOf('registry.example:5000', dir)).toBe('any');
    write(dir, 'registry.example:5000/hosts.toml', 'server = "colon"');
    expect(await urlOf('registry.example:5000', dir)).toBe('colon');
    write(dir, 'registry.example_5000_/hosts.toml', 'server = "underscore"');
    expect(await urlOf('registry.example:5000', dir)).toBe('underscore');
    expect(await urlOf('registry.example', dir)).toBe('any');
    write(dir, '[::1]_5000_/hosts.toml', 'server = "six"');
    expect(await urlOf('[::1]:5000', dir)).toBe('six');
  });

  it('goes by the first folder with the host, before any _default', async () => {
    const [one, two] = [tempDir(), tempDir()];
    write(one, '_default/hosts.toml', 'server = "default-one"');
    write(two, 'registry.example/hosts.toml', 'server = "two"');
    expect(await urlOf('registry.example', one, two)).toBe('two');
    write(one, 'registry.example/hosts.toml', 'server = "one"');
    expect(await urlOf('registry.example', one, two)).toBe('one');
  });

  it("takes docker's certificate files where there is no hosts.toml", async () => {
    const dir = tempDir();
    for (const name of ['a.crt', 'b.crt', 'client.cert', 'client.key', 'whole.cert', 'other.key', 'notes.txt'])
      write(dir, `registry.example/${name}`);
    const at = (name: string) => path.join(dir, 'registry.example', name);
    expect((await findHostConfig('registry.example', [dir]))?.endpoints).toMatchObject([
      {
        url: undefined,
        caFiles: [at('a.crt'), at('b.crt')],
        clientCertificates: [
          { certFile: at('client.cert'), keyFile: at('client.key') },
          { certFile: at('whole.cert'), keyFile: undefined },
        ],
      },
    ]);
    write(dir, 'registry.example/hosts.toml', 'server = "https://m.example"');
    expect((await findHostConfig('registry.example', [dir]))?.endpoints[0]?.caFiles).toEqual([]);
  });

  it('with an empty folder for a host keeps it out of _default', async () => {
    const dir = tempDir();
    write(dir, '_default/hosts.toml', 'server = "any"');
    mkdirSync(path.join(dir, 'registry.example'));
    expect((await findHostConfig('registry.example', [dir]))?.endpoints).toMatchObject([{ url: undefined }]);
  });

  it('with a file that is too large or no file is an error naming it', async () => {
    const dir = tempDir();
    write(dir, 'large.example/hosts.toml', '#'.repeat(1024 * 1024 + 1));
    mkdirSync(path.join(dir, 'folder.example/hosts.toml'), { recursive: true });
    for (const host of ['large.example', 'folder.example']) {
      await expect(findHostConfig(host, [dir])).rejects.toMatchObject({
        code: 'CONFIG_INVALID',
        message: expect.stringContaining(path.join(dir, host, 'hosts.toml')),
      });
    }
  });
});
