import { expect, it } from 'vitest';
import { textLines } from '../../src/util/text-lines.ts';

async function linesOf(chunks: readonly string[], maxBytes = 100): Promise<string[]> {
  const stream = (async function* () {
    for (const chunk of chunks) yield Buffer.from(chunk, 'latin1');
  })();
  const lines: string[] = [];
  for await (const line of textLines(stream, maxBytes)) lines.push(line);
  return lines;
}

it.each<[string[], string[]]>([
  [[], []],
  [['a\n'], ['a']],
  [['a\nb\n\nc'], ['a', 'b', '', 'c']],
  [
    ['a', 'b', '\n', 'c\nd', 'e'],
    ['ab', 'c', 'de'],
  ],
  // A character in two chunks.
  [['\xc3', '\xa4\n'], ['ä']],
])('%j is %j', async (chunks, lines) => {
  expect(await linesOf(chunks)).toEqual(lines);
});

it('refuses a line without an end', async () => {
  await expect(linesOf(['ab\n', 'cd', 'ef'], 3)).rejects.toThrow(RangeError);
});
