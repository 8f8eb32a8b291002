import { isAbsolute } from 'node:path';
import type { Command } from 'commander';
import { InvalidArgumentError } from 'commander';
import { readEnvironment } from '../../config/environment.ts';
import { isDigest } from '../../oci/digest.ts';
import type { Digest } from '../../oci/digest.ts';
import { parsePlatform } from '../../oci/platform.ts';
import { parseReference } from '../../oci/reference.ts';
import type { RegistryReference } from '../../oci/reference.ts';
import { isIdentifier } from '../../snapshotter/containerd/identifier.ts';
import type { PulledImage } from '../../snapshotter/pull/pull-to-containerd.ts';
import type { PulledLayer } from '../../snapshotter/pull/unpack-layers.ts';
import { type AccessOptions, accessOf, addAccessOptions } from '../access-options.ts';
import { example } from '../command.ts';
import type { CliContext } from '../context.ts';
import { UsageError } from '../errors.ts';
import { findDaemon } from '../find-daemon.ts';
import { humanBytes, shortDigest } from '../human.ts';
import { parseFile } from '../options.ts';
import { isRemoteSnapshotter } from '../pull-wish.ts';
import type { ImageWish } from '../pull-wish.ts';
import { usage } from '../usage.ts';

interface PullCommandOptions extends AccessOptions {
  readonly namespace?: string;
  readonly address?: string;
  readonly snapshotter: string;
  readonly platform?: string;
  readonly index?: Digest;
}

const defaultAddress = '/run/containerd/containerd.sock';

export function define(command: Command, context: CliContext): void {
  command
    .description(
      'Pull an image into containerd. Layers that the snapshotter can mount lazily are not downloaded, the others are unpacked: by peel, or by containerd where peel leaves them to it.',
    )
    .argument('<image>', 'image reference, e.g. debian:12 or localhost:5000/app@sha256:…')
    .option(
      '--address <socket>',
      `containerd's socket (default: CONTAINERD_ADDRESS, else ${defaultAddress})`,
      parseFile,
    )
    .option(
      '--namespace <name>',
      "containerd's namespace, k8s.io for kubernetes (default: CONTAINERD_NAMESPACE, else default)",
      parseIdentifier,
    )
    .option('--snapshotter <name>', 'what makes the layers readable', parseIdentifier, 'peel')
    .option('--platform <platform>', 'os/architecture[/variant] to choose from an image index')
    .option('--index <digest>', 'the index to mount with, instead of the one that is found', parseIndex);
  addAccessOptions(command).action(async (image: string, options: PullCommandOptions) => {
    const reference = registryReference(image);
    const { platform: wanted } = options;
    const platform = wanted === undefined ? undefined : { text: wanted, value: usage(() => parsePlatform(wanted)) };
    const { containerdAddress, containerdNamespace = 'default' } = readEnvironment();
    const namespace = options.namespace ?? usage(() => parseIdentifier(containerdNamespace));
    const address = options.address ?? containerdAddress ?? defaultAddress;
    const access = await accessOf(context, options);
    const pulled = await pull(context, {
      reference,
      platform,
      address: address.replace(/^unix:\/\//, ''),
      namespace,
      snapshotter: options.snapshotter,
      index: options.index,
      access,
    });
    context.progress.close();
    await print(context, pulled, options.snapshotter);
  });
  example(command, 'peel pull docker.io/library/debian:12 --namespace k8s.io');
}

/** The daemon's containers are to run it, so that it pulls, as long as what is asked for means the same to it. */
async function pull(context: CliContext, wish: ImageWish): Promise<PulledImage> {
  if (isRemoteSnapshotter(wish.snapshotter) && isAbsolute(wish.address) && context.options.logLevel === 'error') {
    const [daemon, { pullInDaemon }] = await Promise.all([findDaemon(context), import('../pull-in-daemon.ts')]);
    if (daemon !== undefined) {
      const pulled = await pullInDaemon(context, daemon, wish);
      if (pulled !== undefined) return pulled;
    }
  }
  const { pullHere } = await import('../pull-here.ts');
  return await pullHere(context, wish);
}

async function print({ options, output }: CliContext, pulled: PulledImage, snapshotter: string): Promise<void> {
  if (options.json) {
    await output.value(pulled);
    return;
  }
  const { name, target, layers } = pulled;
  const rows = layers.map((layer) => [
    shortDigest(layer.digest),
    outcomeOf(layer),
    humanBytes(layer.size),
    // What peel fetches, it says itself.
    layer.unpackedBy === 'peel' ? '' : humanBytes(layer.fetched),
  ]);
  await output.table(
    [{ title: 'LAYER' }, { title: 'HOW' }, { title: 'SIZE', align: 'right' }, { title: 'FETCHED', align: 'right' }],
    rows,
  );
  const counts = (['lazy', 'unpacked by peel', 'unpacked', 'present'] as const)
    .map((outcome) => ({ outcome, count: layers.filter((layer) => outcomeOf(layer) === outcome).length }))
    .filter(({ count }) => count > 0)
    .map(({ outcome, count }) => `${count} ${outcome}`);
  const byOthers = layers.filter(({ unpackedBy }) => unpackedBy !== 'peel');
  const fetched = byOthers.reduce((sum, layer) => sum + layer.fetched, 0);
  if (byOthers.length > 0) counts.push(`${humanBytes(fetched)} fetched`);
  await output.line(`${name}: ${target}; ${counts.join(', ')}`);
  if (layers.some(({ how }) => how === 'unpacked') && isRemoteSnapshotter(snapshotter))
    await output.line('`peel status` says why a layer was unpacked');
}

function outcomeOf({ how, unpackedBy }: PulledLayer): PulledLayer['how'] | 'unpacked by peel' {
  return unpackedBy === 'peel' ? 'unpacked by peel' : how;
}

function registryReference(image: string): RegistryReference {
  const reference = usage(() => parseReference(image));
  if (reference.kind === 'registry') return reference;
  throw new UsageError(`${image}: containerd pulls from registries; \`ctr image import\` reads archives`);
}

function parseIndex(text: string): Digest {
  if (!isDigest(text)) throw new InvalidArgumentError('expected a digest like sha256:…');
  return text;
}

function parseIdentifier(text: string): string {
  if (!isIdentifier(text))
    throw new InvalidArgumentError(`${text}: expected letters and digits, with single . _ - between them`);
  return text;
}
