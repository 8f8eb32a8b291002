// A remote snapshotter as small as can be: a test says of every layer whether it makes it by itself, or leaves it to be unpacked into a directory.
import { mkdirSync, renameSync, rmSync } from 'node:fs';
import path from 'node:path';
import { create } from '@bufbuild/protobuf';
import type { DescMethod, MessageInitShape, MessageShape } from '@bufbuild/protobuf';
import { status } from '@grpc/grpc-js';
import type { ServerUnaryCall, ServerWritableStream, sendUnaryData } from '@grpc/grpc-js';
import { Kind, Snapshots } from '../../src/snapshotter/gen/containerd/services/snapshots/v1/snapshots_pb.ts';
import { serveGrpc } from '../../src/snapshotter/grpc/serve-grpc.ts';
import type { GrpcListener } from '../../src/snapshotter/grpc/serve-grpc.ts';
import { serviceDefinition } from '../../src/snapshotter/grpc/service-definition.ts';
import type { ProxySnapshotter } from './containerd.ts';

export interface SeenPrepare {
  readonly key: string;
  readonly parent: string;
  readonly labels: Readonly<Record<string, string>>;
}

/** `lies`: there is such a snapshot, it says, and there is none. */
export type Decision = 'lazy' | 'deferred' | 'lies';

interface Snapshot {
  readonly parent: string;
  readonly kind: Kind;
  readonly labels: Readonly<Record<string, string>>;
  readonly dir: string;
}

class Refusal extends Error {
  readonly code: number;

  constructor(code: number, details: string) {
    super(details);
    this.code = code;
  }
}

export class RemoteSnapshotter {
  readonly proxy: ProxySnapshotter;
  /** Of a layer, by its chain ID; default lazy. */
  decide: (prepare: SeenPrepare) => Decision | Promise<Decision> = () => 'lazy';
  readonly prepared: SeenPrepare[] = [];
  readonly #snapshots = new Map<string, Snapshot>();
  #listener: GrpcListener | undefined;
  #dirs = 0;

  private constructor(dir: string) {
    this.proxy = { name: 'peel', socket: path.join(dir, 'snapshotter.sock'), root: dir };
  }

  /** `dir` is the caller's, who removes it. */
  static async start(dir: string): Promise<RemoteSnapshotter> {
    const snapshotter = new RemoteSnapshotter(dir);
    await snapshotter.listen();
    return snapshotter;
  }

  /** Again, after `close`. */
  async listen(): Promise<void> {
    const { method } = Snapshots;
    this.#listener = await serveGrpc({ path: this.proxy.socket }, (server) =>
      server.addService(serviceDefinition(Snapshots), {
        Prepare: answer(method.prepare, (request) => this.#prepare(request)),
        View: answer(method.view, ({ key, parent }) => this.#add(key, parent, Kind.VIEW, {})),
        Mounts: answer(method.mounts, ({ key }) => ({ mounts: this.#mounts(this.#get(key)) })),
        Commit: answer(method.commit, ({ name, key, labels }) => this.#commit(name, key, labels)),
        Remove: answer(method.remove, ({ key }) => this.#remove(key)),
        Stat: answer(method.stat, ({ key }) => ({ info: this.#info(key) })),
        Update: answer(method.update, ({ info }) => ({ info: this.#info(info?.name ?? '') })),
        List: (call: ServerWritableStream<unknown, unknown>) => {
          const info = [...this.#snapshots.keys()].map((key) => this.#info(key));
          call.write(create(method.list.output, { info }));
          call.end();
        },
        Usage: answer(method.usage, () => ({})),
        Cleanup: answer(method.cleanup, () => ({})),
      }),
    );
  }

  /** Names as containerd gives them, which begin with namespace and number. */
  get names(): string[] {
    return [...this.#snapshots.keys()];
  }

  async close(): Promise<void> {
    await this.#listener?.close(0);
  }

  async #prepare({ key, parent, labels }: SeenPrepare) {
    const chainId = labels['containerd.io/snapshot.ref'];
    this.prepared.push({ key, parent, labels: { ...labels } });
    const decision = chainId === undefined ? 'deferred' : await this.decide({ key, parent, labels });
    if (decision === 'deferred') return this.#add(key, parent, Kind.ACTIVE, labels);
    if (decision === 'lazy') this.#add(`remote ${chainId}`, parent, Kind.COMMITTED, labels);
    throw new Refusal(status.ALREADY_EXISTS, `${chainId} is there`);
  }

  #add(key: string, parent: string, kind: Kind, labels: Readonly<Record<string, string>>) {
    const snapshot = { parent, kind, labels: { ...labels }, dir: path.join(this.proxy.root, `fs-${this.#dirs++}`) };
    mkdirSync(snapshot.dir);
    this.#snapshots.set(key, snapshot);
    return { mounts: this.#mounts(snapshot) };
  }

  #mounts({ dir, kind }: Snapshot) {
    return [{ type: 'bind', source: dir, options: ['rbind', kind === Kind.ACTIVE ? 'rw' : 'ro'] }];
  }

  #commit(name: string, key: string, labels: Readonly<Record<string, string>>) {
    const snapshot = this.#get(key);
    const dir = `${snapshot.dir}-committed`;
    renameSync(snapshot.dir, dir);
    this.#snapshots.delete(key);
    this.#snapshots.set(name, { ...snapshot, dir, kind: Kind.COMMITTED, labels: { ...labels } });
    return {};
  }

  #remove(key: string) {
    const { dir } = this.#get(key);
    if ([...this.#snapshots.values()].some(({ parent }) => parent === key))
      throw new Refusal(status.FAILED_PRECONDITION, `${key} has children`);
    rmSync(dir, { recursive: true });
    this.#snapshots.delete(key);
    return {};
  }

  #info(key: string) {
    const { parent, kind, labels } = this.#get(key);
    return { name: key, parent, kind, labels: { ...labels }, createdAt: { seconds: 1n }, updatedAt: { seconds: 1n } };
  }

  #get(key: string): Snapshot {
    const found = this.#snapshots.get(key);
    if (found === undefined) throw new Refusal(status.NOT_FOUND, `no snapshot ${key}`);
    return found;
  }
}

function answer<M extends DescMethod>(
  { output }: M,
  work: (request: MessageShape<M['input']>) => MessageInitShape<M['output']> | Promise<MessageInitShape<M['output']>>,
) {
  return (call: ServerUnaryCall<unknown, unknown>, callback: sendUnaryData<unknown>): void => {
    const run = async () => create(output, await work(call.request as MessageShape<M['input']>));
    run().then(
      (message) => callback(null, message),
      (error: unknown) =>
        callback(
          error instanceof Refusal
            ? { code: error.code, details: error.message }
            : { code: status.INTERNAL, details: String(error) },
        ),
    );
  };
}
