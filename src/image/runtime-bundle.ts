import { lstat } from 'node:fs/promises';
import { join } from 'node:path';
import { writeWhole } from '../util/write-whole.ts';
import type { ContainerConfig } from './container-config.ts';
import { rootfsUser } from './rootfs-user.ts';
import { runtimeSpec } from './runtime-spec.ts';
import type { Rootless } from './runtime-spec.ts';

export interface BundleRequest {
  /** Has the image's tree in `rootfs`. */
  readonly dir: string;
  readonly config: ContainerConfig;
  /** Who runs it, when it is not root. */
  readonly rootless?: { readonly uid: number; readonly gid: number } | undefined;
  /** Whether its process gets a terminal; default true. */
  readonly terminal?: boolean | undefined;
  readonly onWarning?: ((message: string) => void) | undefined;
}

const resolvConf = '/etc/resolv.conf';

/**
 * Writes the config.json that makes a directory with a `rootfs` an OCI runtime bundle; only its owner may read it. Returns its path.
 * Errors: as `rootfsUser`; those of the file system.
 */
export async function writeBundle({ dir, config, rootless, terminal, onWarning }: BundleRequest): Promise<string> {
  const user = await rootfsUser(join(dir, 'rootfs'), config.user);
  if (rootless !== undefined && (user.uid !== 0 || user.gid !== 0)) {
    onWarning?.(
      `the image runs as user ${user.uid} and group ${user.gid}, which only root can give it: in this bundle it is root of its own user namespace`,
    );
  }
  const spec = runtimeSpec({ config, user, rootless: rootless && (await withNames(rootless)), terminal });
  const file = join(dir, 'config.json');
  await writeWhole(file, [Buffer.from(`${JSON.stringify(spec, undefined, 2)}\n`)]);
  return file;
}

async function withNames(rootless: { readonly uid: number; readonly gid: number }): Promise<Rootless> {
  const there = await lstat(resolvConf).then(
    () => true,
    () => false,
  );
  return { ...rootless, resolvConf: there ? resolvConf : undefined };
}
