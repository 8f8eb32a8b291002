// The sample is the documentation of the configuration: every key is in it, and it changes nothing.
import { parse } from 'smol-toml';
import { describe, expect, it } from 'vitest';
import { configKeys, valueAt } from '../../src/config/config-keys.ts';
import { configToml } from '../../src/config/config-text.ts';
import { parseConfig } from '../../src/config/parse-config.ts';
import { readSampleConfig } from '../../src/config/sample-config.ts';
import { configSchema } from '../../src/config/schema.ts';

const sample = await readSampleConfig();

/** `key = value` and `# key = value` lines with their tables; a comment is told from prose by its form. */
function keysIn(text: string): { key: string; isSet: boolean; comment: string }[] {
  const found: { key: string; isSet: boolean; comment: string }[] = [];
  let table = '';
  let comment = '';
  for (const line of text.split('\n')) {
    const header = /^\[([a-z_.]+)\]$/.exec(line)?.[1];
    const [, hash, name] = /^(# )?([a-z0-9_]+) = /.exec(line) ?? [];
    if (header !== undefined) table = `${header}.`;
    else if (name !== undefined) found.push({ key: table + name, isSet: hash === undefined, comment });
    if (line === '' || header !== undefined) comment = '';
    else if (name === undefined) comment += line;
  }
  return found;
}

/** What is missing in or too much in a sample. */
function differences(text: string): string[] {
  const documented = keysIn(text);
  const known = configKeys().filter(({ isTable }) => !isTable);
  const defaults = configSchema.parse({});
  return [
    ...known
      .filter(({ path }) => !documented.some(({ key }) => key === path.join('.')))
      .map(({ path }) => path.join('.')),
    ...documented.flatMap(({ key, isSet, comment }) => {
      const hasDefault = valueAt(defaults, key.split('.')) !== undefined;
      if (!known.some(({ path }) => path.join('.') === key)) return [`unknown ${key}`];
      if (hasDefault !== isSet) return [`${key} is ${isSet ? 'set' : 'commented out'}`];
      return /^# \S/.test(comment) ? [] : [`no word about ${key}`];
    }),
  ];
}

describe('the sample configuration', () => {
  it('is a valid file that equals the defaults', () => {
    expect(parseConfig({ text: sample, file: 'sample' })).toEqual(configSchema.parse({}));
    expect(parse(sample)).not.toEqual({});
  });

  it('documents every key of the schema and no other', () => {
    expect(differences(sample)).toEqual([]);
  });

  it.each<[string, (text: string) => string, string]>([
    ['a key is missing', (text) => text.replace('per_image = 8\n', ''), 'download.per_image'],
    ['an optional key is missing', (text) => text.replace(/^# key_file = .*\n/m, ''), 'credentials.key_file'],
    ['a key is not in the schema', (text) => `${text}# frob = 1\n`, 'unknown credentials.kubeconfig.frob'],
    [
      'a default is commented out',
      (text) => text.replace('docker = true', '# docker = true'),
      'credentials.docker is commented out',
    ],
    ['a key is not explained', (text) => text.replace(/# How long a read.*\n/, ''), 'no word about read.deadline'],
  ])('would not pass when %s', (_, change, expected) => {
    expect(differences(change(sample))).toEqual([expected]);
  });

  it('is right with every line that is commented out as well', () => {
    const all = sample.replace(/^# ([a-z0-9_]+ = )/gm, '$1').replace('key_file = "/var', 'key_file = "/etc');
    const config = parseConfig({ text: all, file: 'sample' });
    for (const { path, isTable } of configKeys())
      if (!isTable) expect(valueAt(config, path), path.join('.')).toBeDefined();
    // What is printed of it is the same configuration.
    expect(parseConfig({ text: configToml(config).join('\n'), file: 'shown' })).toEqual(config);
  });
});
