// CRI's image service as a kubelet speaks it.
import type { MessageInitShape } from '@bufbuild/protobuf';
import type { AuthConfigSchema, FilesystemUsage, Image } from '../../src/snapshotter/gen/cri/api_pb.ts';
import { ImageService } from '../../src/snapshotter/gen/cri/api_pb.ts';
import { GrpcClient } from './grpc-client.ts';

const { pullImage, imageStatus, listImages, removeImage, imageFsInfo } = ImageService.method;

export class CriClient {
  readonly #grpc: GrpcClient;

  constructor(socket: string) {
    this.#grpc = new GrpcClient(socket);
  }

  /** Returns the image's ID: the digest of its configuration. */
  async pull(image: string, auth?: MessageInitShape<typeof AuthConfigSchema>): Promise<string> {
    return (await this.#grpc.call(pullImage, { image: { image }, ...(auth === undefined ? {} : { auth }) })).imageRef;
  }

  /** Undefined when there is none. */
  async status(image: string): Promise<Image | undefined> {
    return (await this.#grpc.call(imageStatus, { image: { image } })).image;
  }

  async list(): Promise<readonly Image[]> {
    return (await this.#grpc.call(listImages, {})).images;
  }

  async remove(image: string): Promise<void> {
    await this.#grpc.call(removeImage, { image: { image } });
  }

  async fsInfo(): Promise<readonly FilesystemUsage[]> {
    return (await this.#grpc.call(imageFsInfo, {})).imageFilesystems;
  }

  close(): void {
    this.#grpc.close();
  }
}
