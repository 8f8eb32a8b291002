// A registry of peel's own in a network namespace, behind a veth pair whose speed HTB limits: what a node sees of a registry elsewhere.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { cli, shell, workDir } from './machine.ts';

export type LinkRate = '100mbit' | '1gbit' | 'unshaped';

const namespace = 'peel-bench';
const [outer, inner] = ['peel-bench-o', 'peel-bench-i'];
const [here, there] = ['10.231.77.1', '10.231.77.2'];

export class ShapedRegistry {
  /** As it stands in a reference. */
  readonly host = `${there}:5057`;
  /** Folder like /etc/containerd/certs.d that says that the registry speaks plain HTTP. */
  readonly certsDir = `${workDir}/shaped-certs.d`;
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess) {
    this.#child = child;
  }

  static async start(root: string): Promise<ShapedRegistry> {
    await removeNamespace();
    await shell(`ip netns add ${namespace}
      ip link add ${outer} type veth peer name ${inner} netns ${namespace}
      ip addr add ${here}/30 dev ${outer} && ip link set ${outer} up
      ip -n ${namespace} addr add ${there}/30 dev ${inner} && ip -n ${namespace} link set ${inner} up && ip -n ${namespace} link set lo up`);
    const args = ['netns', 'exec', namespace, process.execPath, cli, 'registry', 'serve'];
    const child = spawn('ip', [...args, '--root', root, '--listen', `${there}:5057`], {
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    const registry = new ShapedRegistry(child);
    await registry.answers(registry.host);
    return registry;
  }

  /** Another address of the same machine, as it stands in a reference. */
  addressOf(port: number): string {
    return `${there}:${port}`;
  }

  /** The command line that runs a command beside the registry. */
  inside(...command: readonly string[]): [string, ...string[]] {
    return ['ip', 'netns', 'exec', namespace, ...command];
  }

  /** Resolves when a registry answers at `host`, and says in `certsDir` that it speaks plain HTTP. */
  async answers(host: string): Promise<void> {
    const url = `http://${host}`;
    mkdirSync(`${this.certsDir}/${host}`, { recursive: true });
    writeFileSync(
      `${this.certsDir}/${host}/hosts.toml`,
      `server = "${url}"\n[host."${url}"]\ncapabilities = ["pull", "resolve", "push"]\n`,
    );
    await shell(`for i in $(seq 100); do curl -sf ${url}/v2/ >/dev/null && exit 0; sleep 0.1; done; exit 1`);
  }

  /** What the registry may send. */
  async limit(rate: LinkRate): Promise<void> {
    const tc = `ip netns exec ${namespace} tc`;
    await shell(`${tc} qdisc del dev ${inner} root 2>/dev/null || true`);
    if (rate === 'unshaped') return;
    await shell(`${tc} qdisc add dev ${inner} root handle 1: htb default 1
      ${tc} class add dev ${inner} parent 1: classid 1:1 htb rate ${rate} burst 256k cburst 256k`);
  }

  /** Bytes that the registry has sent through the link. */
  async sent(): Promise<number> {
    return Number(await shell(`ip netns exec ${namespace} cat /sys/class/net/${inner}/statistics/tx_bytes`));
  }

  async close(): Promise<void> {
    const ended = once(this.#child, 'exit');
    await shell(`ip netns pids ${namespace} | xargs -r kill`);
    await ended;
    await removeNamespace();
  }
}

async function removeNamespace(): Promise<void> {
  await shell(`ip link del ${outer} 2>/dev/null || true; ip netns del ${namespace} 2>/dev/null || true`);
}
