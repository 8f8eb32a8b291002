import * as fc from 'fast-check';
import { parse, stringify } from 'smol-toml';
import { describe, expect, it } from 'vitest';
import { KeyLines } from '../../src/config/key-lines.ts';

const text = `# a = 1
root = "x" # [not.a.table]

[log] # = {
level = 'info'

[ a . "b c" . 'd' ]
e.f = """
[no]
g = 1 \\"""
""""
h = '''
i = "'''
j = [ # ]
  "k = 1",
  [ "[l]" ],
]
m = { n = "}", o = [ 1 ] }

[[list]]
p = 1
[[list]]
p = 2
[log.deep]
q = 1
"\\u0072" = 1
s = 1`;

describe('KeyLines', () => {
  const lines = new KeyLines(text);

  it.each<[string[], number | undefined]>([
    [['root'], 2],
    [['log'], 4],
    [['log', 'level'], 5],
    [['a'], 7],
    [['a', 'b c', 'd'], 7],
    [['a', 'b c', 'd', 'e'], 8],
    [['a', 'b c', 'd', 'e', 'f'], 8],
    [['a', 'b c', 'd', 'h'], 12],
    [['a', 'b c', 'd', 'j'], 14],
    [['a', 'b c', 'd', 'j', '0'], 14],
    [['a', 'b c', 'd', 'm', 'n'], 18],
    [['list', 'p'], 21],
    [['log', 'deep', 'q'], 25],
    [['log', 'deep', 's'], 27],
    // Nearest above, for what is written with escapes.
    [['log', 'deep', 'r'], 24],
    [['no'], undefined],
    [['i'], undefined],
    [['k'], undefined],
    [['l'], undefined],
  ])('finds %j', (path, line) => {
    expect(lines.find(path)).toBe(line);
  });

  it('parses as it was meant', () => {
    expect(parse(text)).toMatchObject({ a: { 'b c': { d: { e: { f: '[no]\ng = 1 """\n"' }, h: 'i = "' } } } });
  });

  it('finds every key of any document that the parser writes', () => {
    const value = fc.oneof(fc.string(), fc.integer(), fc.boolean(), fc.array(fc.string()));
    const table = fc.dictionary(fc.stringMatching(/^[a-z."' =[\]#]{1,5}$/), value, { minKeys: 1, maxKeys: 5 });
    fc.assert(
      fc.property(fc.dictionary(fc.stringMatching(/^[a-z]{1,5}$/), table, { maxKeys: 5 }), (document) => {
        const text = stringify(document);
        const rows = text.split('\n');
        const lines = new KeyLines(text);
        for (const [name, keys] of Object.entries(document)) {
          for (const key of Object.keys(keys)) {
            const row = rows[(lines.find([name, key]) ?? 0) - 1] ?? '';
            // An escaped one has the line of its table.
            expect(row.startsWith(`[${name}]`) ? /["\\]/.test(key) : row.includes(key)).toBe(true);
          }
        }
      }),
    );
  });

  it('comes to an end whatever the text is', () => {
    const pieces = fc.constantFrom(
      '"',
      "'",
      '"""',
      "'''",
      '[',
      ']',
      '{',
      '}',
      '=',
      '.',
      '#',
      '\n',
      '\\',
      'a',
      ' ',
      '\u0000',
    );
    fc.assert(fc.property(fc.array(pieces, { maxLength: 40 }), (parts) => void new KeyLines(parts.join(''))));
  });
});
