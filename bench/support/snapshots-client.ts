// What containerd asks of a snapshotter, asked without containerd: only the snapshotter's own time is measured.
import { type Client, Metadata, credentials, makeGenericClientConstructor } from '@grpc/grpc-js';
import type { ClientReadableStream, ServiceDefinition } from '@grpc/grpc-js';
import { checkout } from './machine.ts';

/** The generated messages have no types here: a benchmark is compiled without the sources. */
interface Generated {
  readonly Snapshots: unknown;
  readonly PrepareSnapshotRequestSchema: unknown;
  readonly RemoveSnapshotRequestSchema: unknown;
  readonly ListSnapshotsRequestSchema: unknown;
}
interface Info {
  readonly name: string;
  readonly parent: string;
}
type Stream = (request: unknown) => ClientReadableStream<{ info: readonly Info[] }>;
type Call = (request: unknown, metadata: Metadata, done: (error: (Error & { code?: number }) | null) => void) => void;

const alreadyExists = 6;

export class SnapshotsClient {
  readonly #client: Client & Record<string, unknown>;
  readonly #generated: Generated;
  readonly #create: (schema: unknown, value: object) => unknown;

  private constructor(
    client: Client & Record<string, unknown>,
    generated: Generated,
    create: (schema: unknown, value: object) => unknown,
  ) {
    this.#client = client;
    this.#generated = generated;
    this.#create = create;
  }

  static async connect(socket: string): Promise<SnapshotsClient> {
    const load = (file: string): Promise<unknown> => import(`${checkout}/dist/snapshotter/${file}`);
    const generated = (await load('gen/containerd/services/snapshots/v1/snapshots_pb.js')) as Generated;
    const { serviceDefinition } = (await load('grpc/service-definition.js')) as {
      serviceDefinition: (service: unknown) => ServiceDefinition;
    };
    const { create } = (await import('@bufbuild/protobuf')) as unknown as {
      create: (schema: unknown, value: object) => unknown;
    };
    const make = makeGenericClientConstructor(serviceDefinition(generated.Snapshots), 'Snapshots');
    return new SnapshotsClient(new make(`unix:${socket}`, credentials.createInsecure()), generated, create);
  }

  /** Whether the layer is there already, which for a remote snapshotter means that it serves it. */
  prepare(key: string, parent: string, labels: Record<string, string>): Promise<boolean> {
    return this.#call('Prepare', this.#create(this.#generated.PrepareSnapshotRequestSchema, { key, parent, labels }));
  }

  async remove(key: string): Promise<void> {
    await this.#call('Remove', this.#create(this.#generated.RemoveSnapshotRequestSchema, { key }));
  }

  /** The committed snapshot that shows a layer, as containerd looks for it. */
  async named(chainId: string, parent: string | undefined): Promise<string> {
    const below = parent === undefined ? '' : `,parent==${JSON.stringify(parent)}`;
    const [found] = await this.#list(`labels."containerd.io/snapshot.ref"==${chainId}${below}`);
    if (found === undefined) throw new Error(`no snapshot shows ${chainId}`);
    return found.name;
  }

  /** The snapshot and those below it, topmost first. */
  async chain(top: string): Promise<string[]> {
    const parents = new Map((await this.#list()).map(({ name, parent }) => [name, parent]));
    const names: string[] = [];
    for (let name: string | undefined = top; name; name = parents.get(name)) names.push(name);
    return names;
  }

  close(): void {
    this.#client.close();
  }

  #list(...filters: readonly string[]): Promise<readonly Info[]> {
    const request = this.#create(this.#generated.ListSnapshotsRequestSchema, { filters });
    return new Promise((resolve, reject) => {
      const infos: Info[] = [];
      (this.#client['List'] as Stream)
        .call(this.#client, request)
        .on('data', (page: { info: readonly Info[] }) => infos.push(...page.info))
        .on('error', reject)
        .on('end', () => resolve(infos));
    });
  }

  #call(method: string, request: unknown): Promise<boolean> {
    return new Promise((resolve, reject) => {
      (this.#client[method] as Call).call(this.#client, request, new Metadata(), (error) => {
        if (error === null || error.code === alreadyExists) resolve(error !== null);
        else reject(error);
      });
    });
  }
}
