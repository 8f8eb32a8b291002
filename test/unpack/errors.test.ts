import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';

const root = new URL('../..', import.meta.url).pathname;

function textsIn(folder: string): string[] {
  const names = readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' });
  const files = names.filter((name) => /\.m?ts$/.test(name) && !name.endsWith('unpack/errors.ts'));
  return files
    .filter((name) => name !== 'unpack/errors.test.ts')
    .map((name) => readFileSync(join(root, folder, name), 'utf8'));
}

const codes = [...readFileSync(join(root, 'src/unpack/errors.ts'), 'utf8').matchAll(/'(ERR_UNPACK_[A-Z_]+)'/g)].map(
  ([, code = '']) => code,
);
const [sources, tests] = [textsIn('src'), textsIn('test')];

it.each(codes)('%s comes from somewhere, and a test has seen it', (code) => {
  const used = (texts: readonly string[]) => texts.some((text) => text.includes(`'${code}'`));
  expect({ used: used(sources), seen: used(tests) }).toEqual({ used: true, seen: true });
});
