import type { JsonObject } from '../oci/json.ts';
import type { ContainerConfig } from './container-config.ts';
import { containerConfig } from './container-config.ts';
import { ImageError } from './errors.ts';
import { imageErrorFrom } from './registry-errors.ts';

/** What the image says of its containers, of an image that a runtime of this machine can run. Errors: ERR_IMAGE_UNSUPPORTED, ERR_IMAGE_CONTENT. */
export function runnableConfig({
  config,
  reference,
}: {
  readonly config: JsonObject;
  readonly reference: string;
}): ContainerConfig {
  let container: ContainerConfig;
  try {
    container = containerConfig(config, reference);
  } catch (error) {
    throw imageErrorFrom(error, reference);
  }
  const { os } = container;
  if (os !== undefined && os !== 'linux')
    throw new ImageError(
      'ERR_IMAGE_UNSUPPORTED',
      `${reference} is an image for ${os}: only linux images make a bundle`,
    );
  return container;
}

/** Who runs a bundle, when it is not root. */
export function ownIds(): { readonly uid: number; readonly gid: number } {
  return { uid: process.geteuid?.() ?? 0, gid: process.getegid?.() ?? 0 };
}
