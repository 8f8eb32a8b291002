// Rows and files that are damaged while no daemon runs: the next one starts, serves what is right, and says what is not.
import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import Sqlite from 'better-sqlite3';
import { describe, expect, it, onTestFinished } from 'vitest';
import { DaemonProcess } from '../support/daemon-process.ts';
import { KeeperProcess } from '../support/keeper-process.ts';
import { canMount, PeelNode } from '../support/peel-node.ts';
import { runOk } from '../support/run.ts';
import { tarOf } from '../support/tar-members.ts';
import { layersOf, TestRegistry } from '../support/test-registry.ts';

describe.skipIf(!canMount)('a daemon that finds its state damaged', () => {
  it('starts, serves the rest, and shows what is left out', async () => {
    const registry = await TestRegistry.start();
    onTestFinished(() => registry.close());
    const node = new PeelNode();
    onTestFinished(() => node.close());
    const hexes = new Map<string, string>();
    for (const name of ['right', 'broken']) {
      const file = join(node.dir, `${name}.tar`);
      writeFileSync(file, tarOf({ path: 'f', data: Buffer.from(`${name}\n`.repeat(5000)) }));
      const image = await registry.push(name, layersOf([file]));
      hexes.set(name, image.layers[0]?.descriptor.digest.slice(7) ?? '');
    }
    // What it kept is adopted before anything else, and no less careful of what is damaged.
    const run = join(node.dir, 'run');
    mkdirSync(run, { mode: 0o700 });
    await KeeperProcess.start({ dir: run });
    const first = await DaemonProcess.start(node);
    const right = await first.mount(registry.reference('right'));
    await first.mount(registry.reference('broken'));
    await first.end('SIGKILL');

    const database = new Sqlite(join(node.root, 'peel.db'));
    const broken = hexes.get('broken') ?? '';
    const insert = (sql: string) => database.exec(sql);
    insert(`UPDATE layers SET diff_id = 'nonsense' WHERE digest = 'sha256:${broken}'`);
    insert(`INSERT INTO slots (tree, layer, reason, created_at) VALUES ('t', 'nonsense', 'r', 1)`);
    insert(`INSERT INTO snapshots (key, kind, slot, created_at, updated_at) VALUES ('k', 'committed', 1, 1, 1)`);
    for (const state of ['in_progress', 'claimed'])
      insert(
        `INSERT INTO unpack_jobs (layer, diff_id, form, image, size, media_type, state, created_at, updated_at)
         VALUES ('nonsense', 'x', 'plain', 'i', 1, 'm', '${state}', 1, 1)`,
      );
    insert(`INSERT INTO profiles VALUES ('nonsense', 'x', 'y', 'peel', 1, 1, '{', 's', 1)`);
    insert(
      `INSERT INTO mounts (id, dir, reference, digest, transport, why, writable, pid, pid_start, boot, mounted_at, daemon)
       VALUES ('m', '/nowhere', 'r', 'nonsense', 'kernel', 'w', 0, 1, '1', 'b', 1, 1)`,
    );
    database.close();
    const files = join(node.root, 'blobs', 'sha256', broken);
    for (const name of readdirSync(files)) if (name !== 'lock') writeFileSync(join(files, name), 'nonsense');
    rmSync(join(node.dir, 'run', 'live'), { recursive: true, force: true });
    // A folder of an unpack job that is a file.
    rmSync(join(node.root, 'unpack'), { recursive: true, force: true });
    writeFileSync(join(node.root, 'unpack'), 'nonsense');
    await registry.front.close();

    const second = await DaemonProcess.start(node);
    expect(await runOk('cat', [join(right, 'f')])).toBe('right\n'.repeat(5000));
    const { degraded, mounts } = await second.status();
    const tables = (degraded ?? []).map((line) => /^row .* of (\w+) in the database is damaged/.exec(line)?.[1]);
    for (const table of ['layers', 'slots', 'unpack_jobs', 'profiles', 'mounts']) expect(tables).toContain(table);
    expect(mounts.filter(({ error }) => error !== undefined)).toHaveLength(1);
    expect(await node.ok(['status'])).toMatch(/Degraded \(see `peel fsck`\)\nrow /);
    const { code, out } = await node.peel(['fsck']);
    expect(code).toBe(4);
    expect(out).toMatch(/^database layers sha256:.*diff_id is no digest$/m);
    expect(out).toMatch(/^layer sha256:.*index file .*$/m);
    expect(await second.end()).toBe(0);
  });
});
