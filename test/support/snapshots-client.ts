// containerd's side of the Snapshots service, over a real socket.
import { create } from '@bufbuild/protobuf';
import type { DescMessage, DescMethod, DescMethodUnary, MessageInitShape, MessageShape } from '@bufbuild/protobuf';
import { Client, Metadata, credentials } from '@grpc/grpc-js';
import type { ClientUnaryCall } from '@grpc/grpc-js';
import {
  ListSnapshotsRequestSchema,
  Snapshots,
} from '../../src/snapshotter/gen/containerd/services/snapshots/v1/snapshots_pb.ts';
import type {
  Info,
  ListSnapshotsResponse,
} from '../../src/snapshotter/gen/containerd/services/snapshots/v1/snapshots_pb.ts';
import type { Mount } from '../../src/snapshotter/gen/containerd/types/mount_pb.ts';
import { serviceDefinition } from '../../src/snapshotter/grpc/service-definition.ts';

export type Labels = Record<string, string>;

const { method } = Snapshots;

/** How containerd itself, as the server, is told whose snapshots are meant. */
export interface Through {
  readonly namespace: string;
  readonly snapshotter: string;
}

export class SnapshotsClient {
  readonly #client: Client;
  readonly #metadata = new Metadata();
  readonly #snapshotter: string;

  constructor(socket: string, through?: Through) {
    this.#client = new Client(`unix:${socket}`, credentials.createInsecure());
    if (through !== undefined) this.#metadata.set('containerd-namespace', through.namespace);
    this.#snapshotter = through?.snapshotter ?? '';
  }

  async prepare(
    key: string,
    parent = '',
    labels: Labels = {},
    onCall?: (call: ClientUnaryCall) => void,
  ): Promise<Mount[]> {
    return (await this.call(method.prepare, { key, parent, labels }, onCall)).mounts;
  }

  async view(key: string, parent = '', labels: Labels = {}): Promise<Mount[]> {
    return (await this.call(method.view, { key, parent, labels })).mounts;
  }

  async mounts(key: string): Promise<Mount[]> {
    return (await this.call(method.mounts, { key })).mounts;
  }

  async commit(name: string, key: string, labels: Labels = {}): Promise<void> {
    await this.call(method.commit, { name, key, labels });
  }

  /** An active snapshot that is committed at once. */
  async committed(name: string, parent = '', labels: Labels = {}): Promise<void> {
    await this.prepare(`${name}-active`, parent);
    await this.commit(name, `${name}-active`, labels);
  }

  async remove(key: string): Promise<void> {
    await this.call(method.remove, { key });
  }

  async stat(key: string): Promise<Info> {
    return (await this.call(method.stat, { key })).info as Info;
  }

  async update(name: string, labels: Labels, ...paths: string[]): Promise<Info> {
    const answer = await this.call(method.update, { info: { name, labels }, updateMask: { paths } });
    return answer.info as Info;
  }

  async usage(key: string): Promise<{ size: number; inodes: number }> {
    const { size, inodes } = await this.call(method.usage, { key });
    return { size: Number(size), inodes: Number(inodes) };
  }

  async cleanup(): Promise<void> {
    await this.call(method.cleanup, {});
  }

  async list(...filters: string[]): Promise<Info[]> {
    const { path, requestSerialize, responseDeserialize } = definition(method.list);
    const request = create(ListSnapshotsRequestSchema, { filters, snapshotter: this.#snapshotter });
    const stream = this.#client.makeServerStreamRequest(
      path,
      requestSerialize,
      responseDeserialize,
      request,
      this.#metadata,
    );
    const found: Info[] = [];
    for await (const message of stream as AsyncIterable<ListSnapshotsResponse>) found.push(...message.info);
    return found;
  }

  async names(...filters: string[]): Promise<string[]> {
    return (await this.list(...filters)).map(({ name }) => name);
  }

  /** Of any service behind the socket. */
  call<I extends DescMessage, O extends DescMessage>(
    of: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
    onCall?: (call: ClientUnaryCall) => void,
  ): Promise<MessageShape<O>> {
    const { path, requestSerialize, responseDeserialize } = definition(of);
    return new Promise((resolve, reject) => {
      const call = this.#client.makeUnaryRequest(
        path,
        requestSerialize,
        responseDeserialize,
        create(of.input, { ...request, snapshotter: this.#snapshotter }),
        this.#metadata,
        (error, answer) => (error === null ? resolve(answer as MessageShape<O>) : reject(error)),
      );
      onCall?.(call);
    });
  }

  close(): void {
    this.#client.close();
  }
}

function definition(of: DescMethod) {
  const found = serviceDefinition(of.parent)[of.name];
  if (found === undefined) throw new Error(`no method ${of.name}`);
  return found;
}
