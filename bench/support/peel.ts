import { mkdirSync, rmSync } from 'node:fs';
import { cli, output, workDir } from './machine.ts';

/** The command line of peel with a state root and run directory of its own. */
export class Peel {
  readonly root: string;
  readonly run: string;

  constructor(name: string) {
    this.root = `${workDir}/roots/${name}`;
    this.run = `${workDir}/run/${name}`;
    this.forget();
  }

  /** Everything this node knows is gone: the next mount is a first one. */
  forget(): void {
    rmSync(this.root, { recursive: true, force: true });
    rmSync(this.run, { recursive: true, force: true });
    mkdirSync(this.root, { recursive: true });
    mkdirSync(this.run, { recursive: true });
  }

  cli(...args: string[]): Promise<string> {
    return output(process.execPath, [cli, '--root', this.root, ...args], {
      XDG_RUNTIME_DIR: this.run,
      PEEL_RUN_DIR: this.run,
    });
  }

  /** Mounts for as long as `use` runs. */
  async mounted<T>(image: string, transport: string, use: (dir: string) => Promise<T>): Promise<T> {
    const dir = `${workDir}/mnt/${transport}`;
    mkdirSync(dir, { recursive: true });
    await this.cli('mount', image, dir, '--transport', transport);
    try {
      return await use(dir);
    } finally {
      await this.cli('umount', dir);
    }
  }
}
