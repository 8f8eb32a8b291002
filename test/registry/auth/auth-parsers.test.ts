import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { credentialsOf, parseAuthConfig } from '../../../src/registry/auth/auth-config.ts';
import { parseChallenges } from '../../../src/registry/auth/challenge.ts';
import { jsonErrorPlace } from '../../../src/registry/auth/json-place.ts';
import { Scope } from '../../../src/registry/auth/scope.ts';
import { parseTokenAnswer } from '../../../src/registry/auth/token-answer.ts';
import { RegistryError } from '../../../src/registry/errors.ts';

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

describe('jsonErrorPlace', () => {
  it.each([
    ['', 'line 1, column 1'],
    ['{"a": 1,}', 'line 1, column 9'],
    ['[1,]', 'line 1, column 4'],
    ['{\n  "a" 1}', 'line 2, column 7'],
    ['{"a": tru}', 'line 1, column 7'],
    ['{"a": "x', 'line 1, column 7'],
    ['{} {}', 'line 1, column 4'],
    ['[1}', 'line 1, column 3'],
    ['{1: 2}', 'line 1, column 2'],
    ['[[[', 'line 1, column 4'],
  ])('of %j is %s', (text, place) => {
    expect(jsonErrorPlace(text)).toBe(place);
  });

  it('agrees with JSON.parse about what is JSON', () => {
    fc.assert(
      fc.property(
        fc.json(),
        fc.nat(),
        fc.constantFrom('', ',', '}', ']', '"', ':', '1', ' ', '\\', '\n'),
        (json, at, put) => {
          const position = at % (json.length + 1);
          for (const text of [json, json.slice(0, position), json.slice(0, position) + put + json.slice(position)])
            expect([text, jsonErrorPlace(text) === undefined]).toEqual([text, isJson(text)]);
        },
      ),
    );
  });

  it('is found in long texts', () => {
    expect(jsonErrorPlace(`["${'x'.repeat(1_000_000)}`)).toBe('line 1, column 2');
    expect(jsonErrorPlace('['.repeat(1_000_000))).toBe('line 1, column 1000001');
  });
});

describe('parseAuthConfig', () => {
  const secret = 'c2VjcmV0LXRoaW5n';
  const key = fc.constantFrom('r.io', 'r.io/a', 'https://r.io/v1/', 'r.io/v2/', 'index.docker.io', '__proto__', '');
  const text = fc.constantFrom(secret, Buffer.from(`ann:${secret}`).toString('base64'), '', `${secret}!`);
  const entry = fc.oneof(
    fc.dictionary(fc.constantFrom('auth', 'identitytoken', 'registrytoken', 'username'), text),
    text,
  );
  const document = fc.record({ auths: fc.oneof(fc.dictionary(key, entry), text), credsStore: fc.jsonValue() });

  it('reads or refuses any file, and never quotes it', () => {
    fc.assert(
      fc.property(document, fc.nat(), fc.boolean(), (value, at, cut) => {
        const whole = JSON.stringify(value);
        try {
          const config = parseAuthConfig(cut ? whole.slice(0, at % whole.length) : whole, 'file x');
          for (const repository of [undefined, 'a', 'a/b']) {
            const found = credentialsOf(config, 'r.io', repository);
            if (found !== undefined) expect(['password', 'refresh-token', 'access-token']).toContain(found.kind);
          }
        } catch (error) {
          expect(error).toBeInstanceOf(RegistryError);
          expect((error as RegistryError).message).toMatch(/^file x: /);
          expect((error as RegistryError).message).not.toContain(secret);
          expect((error as RegistryError).cause).toBeUndefined();
        }
      }),
    );
  });
});

describe('parseChallenges', () => {
  const name = fc.stringMatching(/^[a-z][a-z0-9_-]{0,8}$/);
  const value = fc.string({ unit: fc.constantFrom('a', ' ', ',', '=', '"', '\\', ':', '/', '*'), maxLength: 12 });
  const challenge = fc.record({ scheme: name, parameters: fc.dictionary(name, value, { minKeys: 1, maxKeys: 4 }) });
  const quoted = (text: string) => `"${text.replace(/[\\"]/g, '\\$&')}"`;

  it('reads back whatever was written, in one line or several', () => {
    fc.assert(
      fc.property(fc.array(challenge, { minLength: 1, maxLength: 4 }), (challenges) => {
        const lines = challenges.map(({ scheme, parameters }) => {
          const list = Object.entries(parameters).map(([key, text]) => `${key}=${quoted(text)}`);
          return `${scheme} ${list.join(',')}`;
        });
        const read = (header: string | string[]) =>
          parseChallenges(header).map((one) => ({
            scheme: one.scheme,
            parameters: Object.fromEntries(one.parameters),
          }));
        const expected = challenges.map((one) => ({ ...one, parameters: { ...one.parameters } }));
        expect(read(lines)).toEqual(expected);
        expect(read(lines.join(', '))).toEqual(expected);
      }),
    );
  });
});

describe('Scope', () => {
  it.each([
    ['repository:a:pull repository:b:pull,push', 'b'],
    ['repository:b/c:pull repository:a:pull', 'a'],
    ['registry:catalog:*', undefined],
    ['', undefined],
  ])('%j is about the repository %s', (text, repository) => {
    expect(Scope.parse(text).repository).toBe(repository);
  });
});

describe('parseTokenAnswer', () => {
  const date = 'Wed, 01 Jan 2020 00:00:30 GMT';
  it.each([
    ['nothing', {}, undefined, 60],
    ['a number', { expires_in: 300 }, undefined, 300],
    ['a number in a text', { expires_in: '300' }, undefined, 300],
    ['nonsense', { expires_in: 'soon' }, undefined, 60],
    ['a negative number', { expires_in: -5 }, undefined, 60],
    ['a time of issue by a clock that is years off', { expires_in: 300, issued_at: '2020-01-01T00:00:00Z' }, date, 270],
    ['a time of issue and no date', { expires_in: 300, issued_at: '2020-01-01T00:00:00Z' }, undefined, 300],
    ['a time of issue in the future', { expires_in: 300, issued_at: '2020-01-01T00:01:00Z' }, date, 300],
    ['a time of issue long ago', { expires_in: 10, issued_at: '2020-01-01T00:00:00Z' }, date, 0],
    ['a time of issue that is none', { expires_in: 10, issued_at: 'yesterday' }, date, 10],
  ])('says how long a token lives of which it says %s', (_name, said, header, seconds) => {
    const bytes = Buffer.from(JSON.stringify({ token: 't', ...said }));
    expect(parseTokenAnswer(bytes, header, 'server').lifetimeMs).toBe(seconds * 1000);
  });

  it('takes access_token where there is no token', () => {
    const read = (value: unknown) => parseTokenAnswer(Buffer.from(JSON.stringify(value)), undefined, 'server').token;
    expect(read({ access_token: 'a' })).toBe('a');
    expect(read({ token: '', access_token: 'a' })).toBe('a');
    expect(read({ token: 't', access_token: 'a' })).toBe('t');
  });
});
