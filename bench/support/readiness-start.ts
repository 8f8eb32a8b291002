// One start from nothing: a fresh node, an image that it has never seen, a container, and the moment of its answer.
import { ContainerNode, type SnapshotterMode } from './container-node.ts';
import { dropCaches, output, shell, tool } from './machine.ts';
import { type ReadinessImage, touchList } from './readiness-image.ts';
import type { ShapedRegistry } from './shaped-registry.ts';

export interface Subject {
  readonly name: string;
  readonly snapshotter: 'peel' | 'overlayfs';
  readonly mode: SnapshotterMode;
  /** Tables of the daemon's configuration. */
  readonly settings: string;
}

export const lazy: Subject = {
  name: 'peel',
  snapshotter: 'peel',
  mode: 'lazy',
  settings: '[profile]\nuse = false\n',
};
export const withProfile: Subject = { ...lazy, name: 'peel with a profile', settings: '' };
export const withoutReadAhead: Subject = {
  ...lazy,
  name: 'peel without read-ahead',
  settings: `${lazy.settings}[read_ahead]\nenabled = false\n`,
};
export const eager: Subject = { ...lazy, name: 'peel, eager', mode: 'eager' };
export const containerd: Subject = { ...lazy, name: 'containerd, overlayfs', snapshotter: 'overlayfs', mode: 'defer' };

/** Times in ms. */
export interface Start {
  /** From the start of the pull to the answer. */
  readonly ready: number;
  readonly pull: number;
  /** From then until the program runs. */
  readonly boot: number;
  /** From then until its answer. */
  readonly reads: number;
  /** From the start of a second container to its answer. */
  readonly warm: number;
  /** Bytes through the link until the answer. */
  readonly sent: number;
  /** Bytes of read-ahead, and those of them that were read by then; where the daemon counts them. */
  readonly readAhead: { readonly fetched: number; readonly used: number } | undefined;
}

export interface Answer {
  /** Of what was read. */
  readonly digest: string;
  readonly startedAt: number;
  readonly answeredAt: number;
}

/** What the program says that reads the same files on the disk's own filesystem. */
export async function rightAnswer(image: ReadinessImage, percent: number): Promise<string> {
  const list = `${image.unpacked}${touchList(percent)}`;
  return parseAnswer(await output(tool('reader', '-static'), [list, image.unpacked])).digest;
}

export interface StartOptions {
  readonly registry: ShapedRegistry;
  /** Folder of the registry, which is another machine and has its blobs in memory. */
  readonly store: string;
  readonly reference: string;
  readonly rightAnswer: string;
}

/** Errors: when the container answers wrongly, and when layers of a lazy start are not peel's. */
export async function startOnce(subject: Subject, options: StartOptions): Promise<Start> {
  const { registry, reference } = options;
  const { snapshotter } = subject;
  const node = await ContainerNode.start(registry, subject.mode, subject.settings);
  try {
    dropCaches();
    await shell(`find ${options.store} -type f -exec cat {} + >/dev/null`);
    const sentBefore = await registry.sent();
    const started = now();
    await node.pull(snapshotter, reference);
    const pulled = now();
    const answer = parseAnswer(await node.run(snapshotter, reference));
    const sent = (await registry.sent()) - sentBefore;
    if (answer.digest !== options.rightAnswer)
      throw new Error(`${subject.name} answers ${answer.digest}, not ${options.rightAnswer}`);
    if (snapshotter === 'peel') await checkDeferrals(node);
    const readAhead = await readAheadOf(node);
    const again = now();
    const second = parseAnswer(await node.run(snapshotter, reference));
    return {
      ready: answer.answeredAt - started,
      pull: pulled - started,
      boot: answer.startedAt - pulled,
      reads: answer.answeredAt - answer.startedAt,
      warm: second.answeredAt - again,
      sent,
      readAhead,
    };
  } finally {
    await node.close();
  }
}

/** The wall clock, which the container's program shares. */
function now(): number {
  return performance.timeOrigin + performance.now();
}

function parseAnswer(text: string): Answer {
  const [, digest = '', started, answered] = /^answer (\w+ \d+) (\S+) (\S+)$/m.exec(text) ?? [];
  if (digest === '') throw new Error(`the container did not answer: ${text.slice(0, 200)}`);
  return { digest, startedAt: Number(started), answeredAt: Number(answered) };
}

/** Of what containerd unpacked the figure would say nothing. */
async function checkDeferrals(node: ContainerNode): Promise<void> {
  const deferrals = await node.deferrals();
  if (Object.values(deferrals).some((count) => count > 0))
    throw new Error(`layers were deferred: ${JSON.stringify(deferrals)}`);
}

async function readAheadOf(node: ContainerNode): Promise<Start['readAhead']> {
  const fetched = await node.counted('peel_read_ahead_fetched_bytes_total');
  const used = await node.counted('peel_read_ahead_used_bytes_total');
  return fetched === undefined || used === undefined ? undefined : { fetched, used };
}
