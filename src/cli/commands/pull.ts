import type { Command } from 'commander';
import { InvalidArgumentError } from 'commander';
import { readEnvironment } from '../../config/environment.ts';
import { isDigest } from '../../oci/digest.ts';
import type { Digest } from '../../oci/digest.ts';
import { parsePlatform } from '../../oci/platform.ts';
import { formatReference, parseReference } from '../../oci/reference.ts';
import type { RegistryReference } from '../../oci/reference.ts';
import type { PulledImage } from '../../snapshotter/pull/pull-to-containerd.ts';
import type { PulledLayer } from '../../snapshotter/pull/unpack-layers.ts';
import { type AccessOptions, accessOf, addAccessOptions } from '../access-options.ts';
import { example } from '../command.ts';
import type { CliContext } from '../context.ts';
import { UsageError } from '../errors.ts';
import { handCredentials } from '../hand-credentials.ts';
import { humanBytes, shortDigest } from '../human.ts';
import { parseFile } from '../options.ts';
import { usage } from '../with-image.ts';
import { withOrigins } from '../with-origins.ts';

interface PullCommandOptions extends AccessOptions {
  readonly namespace?: string;
  readonly address?: string;
  readonly snapshotter: string;
  readonly platform?: string;
  readonly index?: Digest;
}

const defaultAddress = '/run/containerd/containerd.sock';
/** These make nothing by themselves. */
const ownSnapshotters = ['overlayfs', 'native', 'btrfs', 'devmapper', 'zfs', 'erofs', 'blockfile'];

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
    const platform = wanted === undefined ? undefined : usage(() => parsePlatform(wanted));
    const { containerdAddress, containerdNamespace = 'default' } = readEnvironment();
    const namespace = options.namespace ?? usage(() => parseIdentifier(containerdNamespace));
    const address = options.address ?? containerdAddress ?? defaultAddress;
    const access = await accessOf(context, options);
    const { pullToContainerd } = await import('../../snapshotter/pull/pull-to-containerd.ts');
    const pulled = await withOrigins(context, access, ({ open }) =>
      pullToContainerd(
        { openOrigin: open, address },
        {
          reference,
          platform,
          namespace,
          snapshotter: options.snapshotter,
          indexDigest: options.index,
          signal: context.signal,
          // Not before they were right: the daemon reads with them for the containers that run.
          onResolved: async () => {
            if (!ownSnapshotters.includes(options.snapshotter))
              await handCredentials(context, formatReference(reference), access.credentials);
          },
          onProgress: context.progress.report,
          onWarning: context.warn,
        },
      ),
    );
    context.progress.close();
    await print(context, pulled, options.snapshotter);
  });
  example(command, 'peel pull docker.io/library/debian:12 --namespace k8s.io');
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
  if (layers.some(({ how }) => how === 'unpacked') && !ownSnapshotters.includes(snapshotter))
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

/** containerd's identifiers (pkg/identifiers). */
function parseIdentifier(text: string): string {
  if (text.length > 76 || !/^[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*$/.test(text))
    throw new InvalidArgumentError(`${text}: expected letters and digits, with single . _ - between them`);
  return text;
}
