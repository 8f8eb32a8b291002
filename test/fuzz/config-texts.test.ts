// Files that people write, as nobody would: each is taken, or refused by an error of its own kind that names the file and none of its secrets.
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ConfigError } from '../../src/config/errors.ts';
import { parseConfig } from '../../src/config/parse-config.ts';
import { helperOf, hostsOf, parseAuthConfig } from '../../src/registry/auth/auth-config.ts';
import { parseChallenges } from '../../src/registry/auth/challenge.ts';
import { RegistryError } from '../../src/registry/errors.ts';
import { parseHostsFile } from '../../src/registry/hosts/hosts-file.ts';
import { rounds } from '../support/fixtures.ts';

const numRuns = rounds(20_000, 500, 0.1);
const secret = 'c2VjcmV0LXdvcmQ';
const noise = fc.oneof(
  fc.string({ maxLength: 12, unit: 'binary' }),
  fc.constantFrom('"', "'", '[', ']', '{', '}', '=', '\n', '#', ',', '\\', '\0', '__proto__', 'true', '1e999', '-1'),
);

/** A good text with pieces cut out, doubled or replaced. */
function damaged(good: string): fc.Arbitrary<string> {
  const edit = fc.record({ at: fc.nat(good.length), length: fc.nat(24), put: noise, isDoubled: fc.boolean() });
  return fc.array(edit, { minLength: 1, maxLength: 4 }).map((edits) => {
    let text = good;
    for (const { at, length, put, isDoubled } of edits) {
      const piece = text.slice(at, at + length);
      text = text.slice(0, at) + (isDoubled ? piece + piece : put) + text.slice(at + length);
    }
    return text;
  });
}

function refused(error: unknown, kind: typeof RegistryError | typeof ConfigError, file: string): void {
  expect(error).toBeInstanceOf(kind);
  const { message } = error as Error;
  expect(message).toContain(file);
  expect(message.length).toBeLessThan(8_192);
}

const hostsFile = `server = "https://registry.example.com"
ca = "/etc/certs/ca.crt"
[host."https://mirror.example.com:5000"]
  capabilities = ["pull", "resolve"]
  client = [["/etc/certs/client.cert", "/etc/certs/client.key"]]
  skip_verify = true
  override_path = true
  dial_timeout = "5s"
  proxy = "http://user:${secret}@proxy.example.com:3128"
  [host."https://mirror.example.com:5000".header]
    x-token = ["${secret}"]
`;

const authFile = JSON.stringify({
  auths: {
    'https://index.docker.io/v1/': { auth: Buffer.from(`user:${secret}`).toString('base64') },
    'registry.example.com/team': { username: 'user', password: secret },
    'other.example.com': { identitytoken: secret },
  },
  credHelpers: { 'gcr.example.com': 'gcloud' },
  credsStore: 'pass',
});

const configFile = `root = "/var/lib/peel"
[snapshotter]
mode = "lazy-else-eager"
[download]
per_node = 16
per_image = 8
[read]
deadline = "60s"
[cache]
limit = "80%"
high = 95
low = 85
[fill]
enabled = true
bandwidth = "10MB"
hours = "22-06"
[log]
level = "info"
`;

describe('a text with anything in it', () => {
  it('is a hosts.toml, or a RegistryError without its secrets', () => {
    fc.assert(
      fc.property(damaged(hostsFile), (text) => {
        try {
          const { endpoints, warnings } = parseHostsFile(text, '/etc/certs.d/a/hosts.toml');
          expect(endpoints.length).toBeGreaterThan(0);
          expect(warnings.join('\n')).not.toContain(`"${secret}"`);
        } catch (error) {
          refused(error, RegistryError, '/etc/certs.d/a/hosts.toml');
          expect((error as Error).message).not.toContain(secret);
        }
      }),
      { numRuns },
    );
  });

  it('is a docker configuration, or a RegistryError without its secrets', () => {
    fc.assert(
      fc.property(damaged(authFile), (text) => {
        try {
          const config = parseAuthConfig(text, 'credentials file /a');
          for (const host of hostsOf(config)) helperOf(config, host);
        } catch (error) {
          refused(error, RegistryError, '/a');
          expect((error as Error).message).not.toContain(secret);
        }
      }),
      { numRuns },
    );
  });

  it('is a configuration of the daemon, or a ConfigError that names the file', () => {
    fc.assert(
      fc.property(damaged(configFile), (text) => {
        try {
          parseConfig({ text, file: '/etc/peel/config.toml' });
        } catch (error) {
          refused(error, ConfigError, '/etc/peel/config.toml');
        }
      }),
      { numRuns: Math.ceil(numRuns / 4) },
    );
  });

  it('is read as challenges', () => {
    const good =
      'Bearer realm="https://a.example.com/token",service="a",scope="repository:a:pull", Basic realm="b \\" c"';
    fc.assert(
      fc.property(damaged(good), (text) => {
        for (const { scheme, parameters } of parseChallenges(text)) {
          expect(scheme).toBe(scheme.toLowerCase());
          for (const name of parameters.keys()) expect(name).toBe(name.toLowerCase());
        }
      }),
      { numRuns },
    );
  });
});
