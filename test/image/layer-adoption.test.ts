// What one process serves over a connection that is kept, and the next one goes on with: nodeids, how files were opened, and what was asked.
import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { FdKeeper } from '../../src/daemon/fd-keeper.ts';
import { KeptConnections } from '../../src/image/kept-connections.ts';
import type { OpenedBlob } from '../../src/image/kept-connection.ts';
import { blobsOwner, LayerAdoption, retireBlob } from '../../src/image/layer-adoption.ts';
import type { Layer } from '../../src/layer/layer.ts';
import { FuseServer } from '../../src/native/fuse-server.ts';
import { newFuseMount } from '../../src/native/mounts.ts';
import { silentLog } from '../../src/observe/log.ts';
import { openState } from '../../src/state/state.ts';
import type { State } from '../../src/state/state.ts';
import { labLayer } from '../support/image-lab.ts';
import type { LabLayer } from '../support/image-lab.ts';
import { KeeperProcess } from '../support/keeper-process.ts';
import { LayerLab } from '../support/layer-lab.ts';
import { canMount } from '../support/peel-node.ts';
import { tarOf } from '../support/tar-members.ts';
import { tempDir } from '../support/tmp.ts';

interface Process {
  readonly fds: FdKeeper;
  readonly connections: KeptConnections;
}

async function startProcess(keeper: KeeperProcess, state: State, runDir: string): Promise<Process> {
  const fds = await keeper.client();
  const table = state.connections;
  const connections = await KeptConnections.open({ table, fds, boot: 'b', resend: true, log: silentLog(), runDir });
  return { fds, connections };
}

async function bytesAt(file: FileHandle, offset: number, length: number): Promise<Buffer> {
  const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, offset);
  return buffer.subarray(0, bytesRead);
}

/** A connection with one layer after the other in slots 1, 2, …, each open here. */
async function firstProcess({ connections, fds }: Process, layers: readonly Layer[]) {
  const { fd, mount } = await newFuseMount({ allowOther: false });
  const kept = connections.create(blobsOwner);
  const server = FuseServer.blobs({ fd, taken: kept.taken });
  await kept.keep({ fd, mount: mount.fd }, server);
  const blobs: OpenedBlob[] = [];
  const files: FileHandle[] = [];
  for (const [i, layer] of layers.entries()) {
    const name = `blob-${i + 1}`;
    const node = server.addBlob(name, layer.cache, { passthrough: layer.complete });
    const blob = { node, name, place: i + 1, layer: layer.descriptor.digest };
    kept.addBlob(blob);
    files.push(await open(`${mount.path}/${name}`));
    kept.blobOpened(server, blob);
    blobs.push(blob);
  }
  return {
    kept,
    blobs,
    files,
    server,
    end: async () => {
      await kept.leave(server);
      mount.close();
      fds.close();
    },
  };
}

describe.skipIf(!canMount)('layers that are adopted', () => {
  it('go on with their nodes, as they were opened, and with what was asked of the process before', async () => {
    const keeper = await KeeperProcess.start();
    const lab = await LayerLab.start();
    const contents: LabLayer[] = [];
    const layerOf = async () => {
      const content = labLayer(tarOf({ path: 'f', data: randomBytes(300_000) }));
      contents.push(content);
      return await lab.open(content, { spanSize: 64 << 10 });
    };
    const [lazy, complete, lost, gone] = [await layerOf(), await layerOf(), await layerOf(), await layerOf()] as const;
    await complete.fillCache({ signal: new AbortController().signal });
    const [state, runDir] = [openState(tempDir()), tempDir()];
    onTestFinished(() => state.close());
    const first = await firstProcess(await startProcess(keeper, state, runDir), [lazy, complete, lost, gone]);
    onTestFinished(async () => void (await Promise.allSettled(first.files.map((file) => file.close()))));
    const [lazyFile, completeFile, lostFile] = first.files as [FileHandle, FileHandle, FileHandle];
    const [, , lostBlob, last] = first.blobs as [OpenedBlob, OpenedBlob, OpenedBlob, OpenedBlob];
    const isPassthrough = first.server.knownBlob('blob-2').mode === 'passthrough';
    await retireBlob(first.server, first.kept, last)();
    // A read that the process before takes, and does not answer; past the page cache, which would ask once more after an error.
    const direct = await open(`/proc/self/fd/${lazyFile.fd}`, constants.O_RDONLY | constants.O_DIRECT);
    onTestFinished(() => direct.close());
    const release: (() => void)[] = [];
    const behave = lab.front.interfere(
      () => true,
      (_request, _response, forward) => void release.push(forward),
    );
    const waiting = bytesAt(direct, 100_000, 512);
    await expect.poll(() => release.length).toBeGreaterThan(0);
    await first.end();

    const second = await startProcess(keeper, state, runDir);
    const adoption = new LayerAdoption(second.connections, () => {});
    expect([1, 2, 3, 4].map((slot) => adoption.hasBlob(slot))).toEqual([true, true, true, false]);
    // Not another layer than the kernel has pages of.
    expect(adoption.adoptBlob({ slot: 1, layer: complete })).toBeUndefined();
    expect(adoption.adoptBlob({ slot: 1, layer: lazy })).toMatchObject({ transport: 'kernel', direct: false });
    expect(adoption.adoptBlob({ slot: 2, layer: complete })).toBeDefined();
    const [adopted] = adoption.start();
    onTestFinished(async () => {
      adopted?.mount?.close();
      await adopted?.server.stop();
    });
    behave();
    for (const forward of release) forward();
    const late = delay(5_000).then(() => Buffer.from('never'));
    expect(await Promise.race([waiting, late])).toEqual(contents[0]?.tar.subarray(100_000, 100_512));
    // One inode cannot be open through two backing files: it has that of the process before.
    const again = await open(`${adopted?.mount?.path}/blob-2`);
    onTestFinished(() => again.close());
    expect(await bytesAt(again, 1000, 512)).toEqual(contents[1]?.tar.subarray(1000, 1512));
    expect(await bytesAt(completeFile, 5000, 512)).toEqual(contents[1]?.tar.subarray(5000, 5512));
    expect(adopted?.server.knownBlob('blob-2').mode).toBe(isPassthrough ? 'passthrough' : 'plain');
    // What nobody adopted is gone, and its row with it.
    await expect(bytesAt(lostFile, 0, 512)).rejects.toThrow();
    expect(adopted?.kept.blobs().map(({ node }) => node)).not.toContain(lostBlob.node);
    // The kernel may still know the node of the one that was retired.
    expect(adopted?.server.addBlob('new', lazy.cache, { passthrough: false })).toBe(last.node + 1);
  });

  it('are nothing to a process that finds no record of them, or of a connection that is gone', async () => {
    const keeper = await KeeperProcess.start();
    const lab = await LayerLab.start();
    const layer = await lab.open(labLayer(tarOf({ path: 'f', data: 'f' })), { spanSize: 64 << 10 });
    const [state, runDir] = [openState(tempDir()), tempDir()];
    onTestFinished(() => state.close());
    const first = await firstProcess(await startProcess(keeper, state, runDir), [layer]);
    await first.files[0]?.close();
    await first.end();
    const other = openState(tempDir());
    onTestFinished(() => other.close());
    const unknowing = await startProcess(keeper, other, runDir);
    expect([...unknowing.fds.received.keys()]).toEqual([]);
    expect(unknowing.connections.take(blobsOwner)).toEqual([]);
    expect((await keeper.status()).fds).toBe(0);
    expect(state.connections.list()).toHaveLength(1);
    const late = await startProcess(keeper, state, runDir);
    expect(late.connections.take(blobsOwner)).toEqual([]);
    expect(state.connections.list()).toEqual([]);
  });
});
