// How far the kernel reads ahead in an EROFS mount. While layers are lazy that is left at the kernel's 128 KiB, because what it
// reads ahead cannot be taken back when a program waits for something else; from a complete layer reading ahead costs nothing.
import { readdir, writeFile } from 'node:fs/promises';

const backingDevices = '/sys/class/bdi';
const completeKiB = 1024;

/** Names of the EROFS mounts among the kernel's backing devices; empty where there is no sysfs. */
async function erofsDevices(devices: string): Promise<readonly string[]> {
  const names = await readdir(devices).catch((): string[] => []);
  return names.filter((name) => name.startsWith('erofs-'));
}

/**
 * Runs `mount` and lets the EROFS mount that it makes read further ahead. The kernel does not say which device belongs to which
 * mount, so where others mount at the same moment nothing is changed. Never fails by itself.
 */
export async function withReadAhead<T>(mount: () => Promise<T>, devices = backingDevices): Promise<T> {
  const before = new Set(await erofsDevices(devices));
  const mounted = await mount();
  const [device, ...others] = (await erofsDevices(devices)).filter((name) => !before.has(name));
  if (device !== undefined && others.length === 0)
    await writeFile(`${devices}/${device}/read_ahead_kb`, String(completeKiB)).catch(() => {});
  return mounted;
}
