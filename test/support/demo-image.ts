// The image of `peel demo` as a layout of one's own.
import { cpSync, linkSync, mkdirSync, readdirSync } from 'node:fs';
import { homedir } from 'node:os';
import path from 'node:path';
import type { DemoImage } from '../../src/cli/demo/build-image.ts';
import { runOk } from './run.ts';

const builder = new URL('../../dist/cli/demo/build-image.js', import.meta.url).href;
/** Where `peel demo` keeps it between runs. */
const store = path.join(process.env['XDG_CACHE_HOME'] ?? path.join(homedir(), '.cache'), 'peel-demo');

/** Packs it unless that is done: two test files at once would pack it twice, into one folder. */
export async function packedDemoImage(): Promise<DemoImage> {
  const script = `
    import { demoImage } from ${JSON.stringify(builder)};
    const image = await demoImage(${JSON.stringify(store)}, () => {}, new AbortController().signal);
    console.log(JSON.stringify(image));`;
  mkdirSync(store, { recursive: true });
  const child = [process.execPath, '--input-type=module', '-e', script];
  return JSON.parse(await runOk('flock', [`${store}.lock`, ...child], { timeout: 180_000 })) as DemoImage;
}

/** Its layout at `dir`, where a registry may write: the blobs are links to the ones that are kept. */
export async function demoLayout(dir: string): Promise<DemoImage> {
  const image = await packedDemoImage();
  const [from, to] = [image.layout, dir].map((folder) => path.join(folder, 'blobs', 'sha256')) as [string, string];
  mkdirSync(to, { recursive: true });
  for (const name of readdirSync(from)) linkOrCopy(path.join(from, name), path.join(to, name));
  for (const name of ['index.json', 'oci-layout']) cpSync(path.join(image.layout, name), path.join(dir, name));
  return { ...image, layout: dir };
}

function linkOrCopy(from: string, to: string): void {
  try {
    linkSync(from, to);
  } catch {
    cpSync(from, to); // another file system
  }
}
