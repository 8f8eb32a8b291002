// containerd's side of the Snapshots service, over a real socket.
import { create } from '@bufbuild/protobuf';
import type { DescMessage, DescMethodUnary, MessageInitShape, MessageShape } from '@bufbuild/protobuf';
import { Client, credentials } from '@grpc/grpc-js';
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
const definitions = serviceDefinition(Snapshots);

export class SnapshotsClient {
  readonly #client: Client;

  constructor(socket: string) {
    this.#client = new Client(`unix:${socket}`, credentials.createInsecure());
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
    const { path, requestSerialize, responseDeserialize } = definition('List');
    const request = create(ListSnapshotsRequestSchema, { filters });
    const stream = this.#client.makeServerStreamRequest(path, requestSerialize, responseDeserialize, request);
    const found: Info[] = [];
    for await (const message of stream as AsyncIterable<ListSnapshotsResponse>) found.push(...message.info);
    return found;
  }

  async names(...filters: string[]): Promise<string[]> {
    return (await this.list(...filters)).map(({ name }) => name);
  }

  call<I extends DescMessage, O extends DescMessage>(
    of: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
    onCall?: (call: ClientUnaryCall) => void,
  ): Promise<MessageShape<O>> {
    const { path, requestSerialize, responseDeserialize } = definition(of.name);
    return new Promise((resolve, reject) => {
      const call = this.#client.makeUnaryRequest(
        path,
        requestSerialize,
        responseDeserialize,
        create(of.input, request),
        (error, answer) => (error === null ? resolve(answer as MessageShape<O>) : reject(error)),
      );
      onCall?.(call);
    });
  }

  close(): void {
    this.#client.close();
  }
}

function definition(name: string) {
  const found = definitions[name];
  if (found === undefined) throw new Error(`no method ${name}`);
  return found;
}
