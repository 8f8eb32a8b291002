// The layers of the code as data: who may import whom, and the few rules that hold for every file of src/.
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';

const src = new URL('../src', import.meta.url).pathname;

/** Folder → its layer, and the folders of the same layer that it may import besides itself. Imports go down, never up. */
const folders: Record<string, { layer: number; beside?: string[] }> = {
  util: { layer: 0 },
  native: { layer: 0 },
  oci: { layer: 1 },
  tar: { layer: 1 },
  config: { layer: 1 },
  observe: { layer: 1 },
  registry: { layer: 2 },
  index: { layer: 2 },
  tree: { layer: 2 },
  state: { layer: 2 },
  layer: { layer: 3 },
  unpack: { layer: 3, beside: ['layer'] },
  image: { layer: 4 },
  snapshotter: { layer: 5 },
  fsck: { layer: 5 },
  daemon: { layer: 6 },
  cli: { layer: 6, beside: ['daemon'] },
};

const importPattern =
  /(?:^|[\s;}])(?:import|export)\s[^'"`;]*?from\s*['"]([^'"]+)['"]|import\s*\(?\s*['"]([^'"]+)['"]/g;
const longestFile = 500;

/** Every broken rule of one file, as sentences. `file` is relative to src/. */
export function violations(file: string, text: string): string[] {
  const found: string[] = [];
  const folder = file.split(path.sep)[0] ?? '';
  const row = folders[folder];
  const say = (what: string): void => void found.push(`${file}: ${what}`);
  if (!row) return [`${file}: folder ${folder}/ is not in the table`];
  for (const specifier of importsOf(text)) {
    if (!specifier.startsWith('.')) continue;
    const target = path.relative('.', path.join(path.dirname(file), specifier)).split(path.sep)[0] ?? '';
    const targetRow = folders[target];
    if (!targetRow) say(`imports ${specifier}, which is outside the table`);
    else if (target !== folder && targetRow.layer >= row.layer && !row.beside?.includes(target)) {
      say(`imports ${target}/ (layer ${targetRow.layer}) from ${folder}/ (layer ${row.layer})`);
    }
  }
  const code = withoutComments(text);
  if (text.trimEnd().split('\n').length > longestFile) say(`longer than ${longestFile} lines`);
  if (path.basename(file) === 'index.ts') say('is an index.ts; name the file like its folder');
  if (/^export\s+default\b/m.test(code) || /\bas\s+default\b/.test(code)) say('has a default export');
  if (folder !== 'config' && /\bprocess\s*(\.\s*env\b|\[\s*['"]env)|\benv\b[^;]*from 'node:process'/.test(code)) {
    say('reads the environment outside config/');
  }
  if (
    folder !== 'state' &&
    /better-sqlite3|[`'"]\s*(SELECT\s.+\sFROM|INSERT\s+(OR\s+\w+\s+)?INTO|UPDATE\s+\w+\s+SET|DELETE\s+FROM|CREATE\s+TABLE|PRAGMA)\s/i.test(
      code,
    )
  ) {
    say('speaks SQL outside state/');
  }
  if (file !== path.join('native', 'addon.ts') && /['"`/][^'"`\s]*\.node['"`]|process\.dlopen/.test(code)) {
    say('loads a .node file outside native/addon.ts');
  }
  return found;
}

function importsOf(text: string): string[] {
  return [...withoutComments(text).matchAll(importPattern)].map((match) => match[1] ?? match[2] ?? '');
}

function withoutComments(text: string): string {
  return text.replace(/\/\*[\s\S]*?\*\//g, '').replace(/(^|\s)\/\/.*$/gm, '$1');
}

function sources(): string[] {
  return readdirSync(src, { recursive: true, encoding: 'utf8' }).filter(
    // Generated from published .proto files.
    (name) => /\.[cm]?tsx?$/.test(name) && !name.includes(`${path.sep}gen${path.sep}`),
  );
}

describe('architecture', () => {
  it('holds in every file of src/', () => {
    const files = sources();
    expect(files.length).toBeGreaterThan(0);
    expect(files.flatMap((file) => violations(file, readFileSync(path.join(src, file), 'utf8')))).toEqual([]);
  });

  it.each<[string, string, string]>([
    ['an import upwards', 'tar/x.ts', `import { a } from '../tree/tree.ts';`],
    ['a type import upwards', 'oci/x.ts', `import type {\n  A,\n} from '../registry/registry.ts';`],
    ['an import sideways', 'index/x.ts', `import { a } from '../registry/registry.ts';`],
    ['a lazy import upwards', 'layer/x.ts', `const m = await import('../image/image.ts');`],
    ['a re-export upwards', 'util/x.ts', `export { a } from '../oci/digest.ts';`],
    ['an import of nothing but effects', 'util/x.ts', `import '../cli/main.ts';`],
    ['the daemon importing the command line', 'daemon/x.ts', `import { a } from '../cli/main.ts';`],
    ['an import from outside src/', 'cli/x.ts', `import { a } from '../../test/support/run.ts';`],
    ['an unknown folder', 'helpers/x.ts', 'export const a = 1;'],
    ['a long file', 'util/x.ts', '\n'.repeat(500) + 'a'],
    ['an index file', 'oci/index.ts', 'export const a = 1;'],
    ['a default export', 'oci/x.ts', 'export default 1;'],
    ['the environment', 'cli/x.ts', 'const home = process.env.HOME;'],
    ['the environment by name', 'cli/x.ts', `import { env } from 'node:process';`],
    ['SQL', 'image/x.ts', 'const sql = `SELECT digest FROM layers`;'],
    ['the database driver', 'image/x.ts', `import Database from 'better-sqlite3';`],
    ['a second loader of the addon', 'native/x.ts', `const addon = require('../../native/build/Release/peel.node');`],
  ])('refuses %s', (_what, file, text) => {
    expect(violations(file, text)).not.toEqual([]);
  });

  it.each<[string, string, string]>([
    ['an import downwards', 'image/x.ts', `import { a } from '../registry/registry.ts';`],
    ['an import of its own folder', 'tar/x.ts', `import { a } from './entry.ts';`],
    ['the one arrow sideways', 'unpack/x.ts', `import { a } from '../layer/layer.ts';`],
    ['the command line importing the daemon', 'cli/commands/x.ts', `import { a } from '../../daemon/node.ts';`],
    ['words about SQL in a comment', 'image/x.ts', `// 'SELECT a FROM b ' is state/'s\nexport const a = 1;`],
  ])('allows %s', (_what, file, text) => {
    expect(violations(file, text)).toEqual([]);
  });
});
