import { chmodSync, existsSync, mkdirSync, renameSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { removeTree } from '../../src/util/remove-tree.ts';
import { run } from '../support/run.ts';
import { tempDir } from '../support/tmp.ts';

describe('removeTree', () => {
  it('removes what no path can name, and follows no link', async () => {
    const dir = tempDir('peel-remove-');
    const outside = path.join(dir, 'outside');
    mkdirSync(path.join(outside, 'sub'), { recursive: true });
    const tree = path.join(dir, 'tree');
    mkdirSync(tree);
    // Built from its end: each time it gets a directory around it.
    const name = 'd'.repeat(250);
    mkdirSync(path.join(dir, 'inner'));
    writeFileSync(path.join(dir, 'inner', 'file'), '');
    symlinkSync(outside, path.join(dir, 'inner', 'link'));
    for (let depth = 0; depth < 60; depth += 1) {
      mkdirSync(path.join(dir, 'outer'));
      renameSync(path.join(dir, 'inner'), path.join(dir, 'outer', name));
      renameSync(path.join(dir, 'outer'), path.join(dir, 'inner'));
    }
    renameSync(path.join(dir, 'inner'), path.join(tree, 'deep'));
    writeFileSync(Buffer.concat([Buffer.from(`${tree}/`), Buffer.from([0xff, 0xfe])]), '');
    symlinkSync(outside, path.join(tree, 'link'));
    await removeTree(tree);
    expect(existsSync(tree)).toBe(false);
    expect(existsSync(path.join(outside, 'sub'))).toBe(true);
    await removeTree(tree);
  });

  it('removes a file, and says what cannot be removed', async () => {
    const dir = tempDir('peel-remove-');
    writeFileSync(path.join(dir, 'file'), '');
    await removeTree(path.join(dir, 'file'));
    expect(existsSync(path.join(dir, 'file'))).toBe(false);
    await expect(removeTree('/proc/self/fdinfo')).rejects.toMatchObject({
      code: expect.stringMatching(/^E/) as string,
    });
  });

  it('removes the directories of an ordinary user that are closed', async () => {
    const dir = tempDir('peel-remove-');
    chmodSync(dir, 0o777);
    const module = new URL('../../dist/util/remove-tree.js', import.meta.url).href;
    const script = `
      import { mkdirSync, writeFileSync, chmodSync, existsSync } from 'node:fs';
      import { rm } from 'node:fs/promises';
      const { removeTree } = await import(${JSON.stringify(module)});
      if (process.getuid() === 0) process.setuid(65534);
      const tree = ${JSON.stringify(path.join(dir, 'tree'))};
      mkdirSync(tree + '/a/b/c', { recursive: true });
      writeFileSync(tree + '/a/b/file', '');
      for (const name of ['/a/b/c', '/a/b', '/a']) chmodSync(tree + name, name === '/a/b' ? 0o555 : 0);
      const refused = await rm(tree, { recursive: true }).then(() => 'removed', (error) => error.code);
      await removeTree(tree);
      console.log(refused, existsSync(tree));`;
    const result = await run(process.execPath, ['--input-type=module', '-e', script], { cwd: '/' });
    expect([result.out, result.err]).toEqual(['EACCES false\n', '']);
  });
});
