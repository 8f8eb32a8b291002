// The node's own unpacker, with somebody who watches what it is asked for and may hold it up.
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import type {
  UnpackedTree,
  Unpacker,
  UnpackImageRequest,
  UnpackLayerRequest,
  UnpackLimits,
  UnpackOptions,
  UnpackStatus,
} from '../../src/unpack/unpacker.ts';

export class WatchedUnpacker implements Unpacker {
  readonly requests: UnpackLayerRequest[] = [];
  readonly images: UnpackImageRequest[] = [];
  /** Comes before a layer is unpacked. */
  hold: (request: UnpackLayerRequest, signal: AbortSignal) => Promise<void> = async () => {};
  readonly #unpacker: Unpacker;
  readonly #root: string;

  constructor(unpacker: Unpacker, root: string) {
    this.#unpacker = unpacker;
    this.#root = root;
  }

  async unpackLayer(request: UnpackLayerRequest, options: UnpackOptions): Promise<UnpackedTree> {
    this.requests.push(request);
    await this.hold(request, options.signal);
    return await this.#unpacker.unpackLayer(request, options);
  }

  async unpackImage(request: UnpackImageRequest, options: UnpackOptions): Promise<void> {
    this.images.push(request);
    await this.#unpacker.unpackImage(request, options);
  }

  /** Folders of jobs that have a tree still. */
  left(): string[] {
    const dir = join(this.#root, 'unpack');
    return existsSync(dir) ? readdirSync(dir).filter((job) => existsSync(join(dir, job, 'fs'))) : [];
  }

  status(): UnpackStatus {
    return this.#unpacker.status();
  }

  setLimits(limits: UnpackLimits): void {
    this.#unpacker.setLimits(limits);
  }

  async collect(): Promise<void> {
    await this.#unpacker.collect();
  }

  async idle(): Promise<void> {
    await this.#unpacker.idle();
  }

  async close(): Promise<void> {
    await this.#unpacker.close();
  }
}
