// The way to a shaped registry with a round trip: tools/delay.cpp in the registry's namespace, at an address of its own.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { output, tool } from './machine.ts';
import type { ShapedRegistry } from './shaped-registry.ts';

export class DelayedLink {
  /** As it stands in a reference. */
  readonly host: string;
  readonly #child: ChildProcess | undefined;

  private constructor(host: string, child?: ChildProcess) {
    this.host = host;
    this.#child = child;
  }

  /** With a round trip of 0 the registry's own address, and nothing between. */
  static async start(registry: ShapedRegistry, roundTripMs: number): Promise<DelayedLink> {
    if (roundTripMs === 0) return new DelayedLink(registry.host);
    const host = registry.addressOf(5058);
    const ends = [host, registry.host].flatMap((end) => end.split(':'));
    const [command, ...args] = registry.inside(tool('delay', '-pthread'), ...ends, String(roundTripMs));
    const child = spawn(command, args, { stdio: ['ignore', 'ignore', 'inherit'] });
    const link = new DelayedLink(host, child);
    try {
      await registry.answers(host);
      return link;
    } catch (error) {
      await link.close();
      throw error;
    }
  }

  /** ms from a request on an open connection to the end of its answer, the shortest of five: the round trip and what the registry takes. */
  async answerMs(): Promise<number> {
    // curl keeps the connection from one URL to the next.
    const request = ['-s', '-o', '/dev/null', '-w', '%{time_total}\\n', `http://${this.host}/v2/`, '--next'];
    const text = await output(
      'curl',
      Array.from({ length: 6 }, () => request)
        .flat()
        .slice(0, -1),
    );
    return Math.min(...text.trim().split('\n').slice(1).map(Number)) * 1000;
  }

  async close(): Promise<void> {
    if (this.#child === undefined || this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = once(this.#child, 'exit');
    this.#child.kill();
    await ended;
  }
}
