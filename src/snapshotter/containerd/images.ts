import type { Descriptor } from '../../oci/descriptor.ts';
import { Images } from '../gen/containerd/services/images/v1/images_pb.ts';
import { fromDescriptorMessage, toDescriptorMessage } from './descriptor-message.ts';
import { isContainerdError } from './errors.ts';
import type { CallOptions, ContainerdSession } from './session.ts';

/** Names of images in one namespace. */
export class ImageService {
  readonly #session: ContainerdSession;

  constructor(session: ContainerdSession) {
    this.#session = session;
  }

  /** What the name stands for; undefined when there is no such image. */
  async target(name: string, options?: CallOptions): Promise<Descriptor | undefined> {
    try {
      const { image } = await this.#session.call(Images.method.get, `get the image ${name}`, { name }, options);
      return fromDescriptorMessage(image?.target);
    } catch (error) {
      if (isContainerdError(error, 'ERR_CONTAINERD_NOT_FOUND')) return undefined;
      throw error;
    }
  }

  /** Gives the name to `target`; labels that somebody put on the image stay. */
  async put(name: string, target: Descriptor, options?: CallOptions): Promise<void> {
    const image = { name, target: toDescriptorMessage(target) };
    // Somebody may remove it between the two calls.
    for (let tries = 1; ; tries += 1) {
      try {
        await this.#session.call(Images.method.create, `create the image ${name}`, { image }, options);
        return;
      } catch (error) {
        if (!isContainerdError(error, 'ERR_CONTAINERD_EXISTS')) throw error;
      }
      try {
        const request = { image, updateMask: { paths: ['target'] } };
        await this.#session.call(Images.method.update, `update the image ${name}`, request, options);
        return;
      } catch (error) {
        if (!isContainerdError(error, 'ERR_CONTAINERD_NOT_FOUND') || tries === 3) throw error;
      }
    }
  }
}
