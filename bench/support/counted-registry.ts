// A registry of peel's own that tells how many bytes it gave away.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, rmSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { cli, shell, workDir } from './machine.ts';

const host = '127.0.0.1:5055';
const metrics = 'http://127.0.0.1:5057/metrics';
const root = `${workDir}/counted-registry`;

export class CountedRegistry {
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess) {
    this.#child = child;
  }

  /** With an empty store. */
  static async start(): Promise<CountedRegistry> {
    rmSync(root, { recursive: true, force: true });
    mkdirSync(root, { recursive: true });
    const args = [cli, 'registry', 'serve', '--root', root, '--listen', host, '--metrics', '127.0.0.1:5057'];
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'ignore', 'inherit'] });
    await shell(`for i in $(seq 100); do curl -sf ${metrics} >/dev/null && exit 0; sleep 0.1; done; exit 1`);
    return new CountedRegistry(child);
  }

  /** Copies the image of an OCI layout there. Returns its reference. */
  async hold(layout: string, name: string): Promise<string> {
    const reference = `${host}/bench/${name}:latest`;
    await shell(`skopeo copy --quiet --dest-tls-verify=false oci:${layout}:latest docker://${reference}`);
    return reference;
  }

  /** Bytes of all answers so far, once none is under way any more. */
  async sent(): Promise<number> {
    for (;;) {
      const text = await (await fetch(metrics)).text();
      const underWay = [...text.matchAll(/^peel_registry_requests_in_flight (\d+)/gm)].some(([, n]) => n !== '0');
      if (!underWay)
        return [...text.matchAll(/^peel_registry_sent_bytes_total\{.*\} (\S+)$/gm)].reduce(
          (sum, [, bytes]) => sum + Number(bytes),
          0,
        );
      await sleep(50);
    }
  }

  async close(): Promise<void> {
    this.#child.kill();
    if (this.#child.exitCode === null) await once(this.#child, 'exit');
    rmSync(root, { recursive: true, force: true });
  }
}
