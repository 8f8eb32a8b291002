// Where a text stops being JSON. The message of JSON.parse quotes the text, and a text with credentials must not be quoted.

const space = /[ \t\r\n]*/y;
const scalar =
  /"(?:[ !#-[\]-\uffff]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null/y;

/** `line 3, column 7`, both from 1; undefined when the text is JSON. */
export function jsonErrorPlace(text: string): string | undefined {
  const open: ('{' | '[')[] = [];
  let at = 0;
  let next: 'value' | 'value or end' | 'name' | 'name or end' | 'colon' | 'comma' = 'value';
  for (;;) {
    at += lengthOf(space, text, at);
    const inside = open.at(-1);
    const character = text[at];
    const closing = (character === '}' && inside === '{') || (character === ']' && inside === '[');
    if (next === 'comma' && inside === undefined) return at === text.length ? undefined : placeOf(text, at);
    if (closing && (next === 'comma' || next.endsWith(' or end'))) {
      open.pop();
      next = 'comma';
      at += 1;
    } else if (next === 'comma' || next === 'colon') {
      if (character !== (next === 'comma' ? ',' : ':')) return placeOf(text, at);
      next = next === 'comma' && inside === '{' ? 'name' : 'value';
      at += 1;
    } else if (next.startsWith('value') && (character === '{' || character === '[')) {
      open.push(character);
      next = character === '{' ? 'name or end' : 'value or end';
      at += 1;
    } else {
      const length = next.startsWith('value') || character === '"' ? lengthOf(scalar, text, at) : 0;
      if (length === 0) return placeOf(text, at);
      next = next.startsWith('name') ? 'colon' : 'comma';
      at += length;
    }
  }
}

function lengthOf(pattern: RegExp, text: string, at: number): number {
  pattern.lastIndex = at;
  return pattern.exec(text)?.[0].length ?? 0;
}

function placeOf(text: string, at: number): string {
  const lines = text.slice(0, at).split('\n');
  return `line ${lines.length}, column ${(lines.at(-1)?.length ?? 0) + 1}`;
}
