// The driver of both registries: node:http with nothing of ours around it, and curl for large blobs.
import { createHash } from 'node:crypto';
import { Agent, type IncomingMessage, request } from 'node:http';
import { output, shell } from './machine.ts';

export interface Blob {
  readonly digest: string;
  readonly bytes: Buffer;
}

export function blobOf(bytes: Buffer): Blob {
  return { digest: `sha256:${createHash('sha256').update(bytes).digest('hex')}`, bytes };
}

export class RawClient {
  readonly #agent: Agent;
  readonly #base: string;
  readonly #connections: number;

  constructor(host: string, connections: number) {
    this.#agent = new Agent({ keepAlive: true, maxSockets: connections });
    this.#base = `http://${host}/v2/bench/small`;
    this.#connections = connections;
  }

  /** POST and PUT of each. */
  push(blobs: readonly Blob[]): Promise<void> {
    return this.#each(blobs, async ({ digest, bytes }) => {
      const { location = '' } = await this.#send('POST', `${this.#base}/blobs/uploads/`, 202);
      const url = new URL(location, this.#base);
      url.search += `${url.search === '' ? '?' : '&'}digest=${encodeURIComponent(digest)}`;
      await this.#send('PUT', url.href, 201, bytes);
    });
  }

  pull(blobs: readonly Blob[]): Promise<void> {
    return this.#each(
      blobs,
      async ({ digest }) => void (await this.#send('GET', `${this.#base}/blobs/${digest}`, 200)),
    );
  }

  close(): void {
    this.#agent.destroy();
  }

  async #each(blobs: readonly Blob[], work: (blob: Blob) => Promise<void>): Promise<void> {
    const left = blobs.values();
    const worker = async () => {
      for (const blob of left) await work(blob);
    };
    await Promise.all(Array.from({ length: this.#connections }, worker));
  }

  #send(method: string, url: string, expected: number, body?: Buffer): Promise<IncomingMessage['headers']> {
    return new Promise((resolve, reject) => {
      const headers = { 'content-length': body?.length ?? 0, 'content-type': 'application/octet-stream' };
      const sent = request(url, { method, agent: this.#agent, headers }, (answer) => {
        answer.resume();
        answer.once('error', reject);
        answer.once('end', () => {
          if (answer.statusCode === expected) resolve(answer.headers);
          else reject(new Error(`${method} ${url}: ${answer.statusCode}`));
        });
      });
      sent.once('error', reject);
      sent.end(body);
    });
  }
}

/** One POST and one PUT of a file. */
export async function pushFile(host: string, file: string, digest: string): Promise<void> {
  await shell(`
    location=$(curl -sSf -o /dev/null -D - -X POST http://${host}/v2/bench/large/blobs/uploads/ | tr -d '\\r' | sed -n 's/^[Ll]ocation: //p')
    case $location in /*) location=http://${host}$location;; esac
    case $location in *\\?*) location="$location&digest=${digest}";; *) location="$location?digest=${digest}";; esac
    curl -sSf -o /dev/null -T ${file} -H 'content-type: application/octet-stream' -H 'expect:' "$location"`);
}

export async function pullFile(host: string, digest: string): Promise<void> {
  await output('curl', ['-sSf', '-o', '/dev/null', `http://${host}/v2/bench/large/blobs/${digest}`]);
}
