import type { Command } from 'commander';
import type { IndexStatus, InspectedImage, LayerStatus } from '../../image/image.ts';
import type { RateLimit } from '../../registry/registry.ts';
import { example } from '../command.ts';
import type { CliContext } from '../context.ts';
import { humanBytes, oneLine, percent, shortDigest } from '../human.ts';
import { formatName } from '../index-text.ts';
import { addImageOptions, checkReference, imageArgument, type ImageOptions, openOptions } from '../with-image.ts';
import { withNode } from '../with-node.ts';

export function define(command: Command, context: CliContext): void {
  addImageOptions(command)
    .description(
      'Nothing of the layers is fetched: `lazy` by span when read, `whole` when needed at all, `complete` is all here.',
    )
    .argument('<image>', imageArgument)
    .action(async (reference: string, options: ImageOptions) => {
      checkReference(reference);
      const open = openOptions(context, options);
      const image = await withNode(context, (node) => node.inspectImage(reference, open), options);
      image.warnings.forEach(context.warn);
      if (context.options.json) await context.output.value(image);
      else await print(context, image);
    });
  example(command, 'peel inspect localhost:5000/app:1');
}

async function print({ output }: CliContext, image: InspectedImage): Promise<void> {
  const { layers } = image;
  const sum = (pick: (layer: LayerStatus) => number): number => layers.reduce((total, layer) => total + pick(layer), 0);
  const compressed = sum((layer) => layer.descriptor.size);
  const stream = layers.every(({ streamSize }) => streamSize !== undefined)
    ? sum(({ streamSize }) => streamSize ?? 0)
    : undefined;
  const present = sum((layer) => layer.presentBytes);
  await output.line(`Reference: ${image.reference}`);
  await output.line(`Digest:    ${image.digest}`);
  await output.line(`Type:      ${image.manifest.mediaType}`);
  const { os, architecture, created } = image.config;
  await output.line(
    `Platform:  ${[os, architecture].filter((part) => typeof part === 'string').join('/') || 'not said'}`,
  );
  if (typeof created === 'string') await output.line(`Created:   ${created}`);
  const unpacked = stream === undefined ? '' : `, ${humanBytes(stream)} unpacked`;
  await output.line(`Size:      ${humanBytes(compressed)} compressed${unpacked}`);
  const share = stream === undefined ? '' : ` (${percent(present, stream)})`;
  await output.line(`Cached:    ${humanBytes(present)}${share}`);
  await output.line(`Index:     ${indexText(image)}`);
  const { rateLimit } = image;
  if (rateLimit !== undefined && rateLimit.remaining < rateLimit.limit / 10)
    await output.line(rateLimitLine(rateLimit));
  await output.line('');
  const columns = [
    { title: 'LAYER' },
    { title: 'SIZE', align: 'right' as const },
    { title: 'UNPACKED', align: 'right' as const },
    { title: 'CACHED', align: 'right' as const },
    { title: 'SERVED' },
    { title: 'INDEX' },
    { title: 'WHY' },
  ];
  await output.table(
    columns,
    layers.map((layer) => layerRow(layer, image)),
  );
}

function indexText({ index, indexReason }: InspectedImage): string {
  if (index === undefined) return `none, ${indexReason.replace(/^no index: /, '')}`;
  const { format, digest, source } = index;
  return `${formatName(format)} index ${digest ?? ''} (${source})`;
}

function rateLimitLine({ limit, remaining, windowSeconds }: RateLimit): string {
  const seconds = windowSeconds ?? 0;
  const window = seconds === 0 ? '' : seconds % 3600 === 0 ? ` per ${seconds / 3600} h` : ` per ${seconds} s`;
  return `Pulls:     ${remaining} of ${limit} left${window}`;
}

function layerRow(layer: LayerStatus, { index: chosen }: InspectedImage): string[] {
  const { index } = layer;
  return [
    shortDigest(layer.descriptor.digest),
    humanBytes(layer.descriptor.size),
    layer.streamSize === undefined ? '?' : humanBytes(layer.streamSize),
    percent(layer.presentBytes, layer.streamSize ?? layer.descriptor.size),
    layer.serving,
    index === undefined ? 'none' : layerIndex(index, chosen),
    oneLine(layer.reason),
  ];
}

/** What the head of the answer says of the image's index is not said again. */
function layerIndex({ format, digest, source }: IndexStatus, chosen: IndexStatus | undefined): string {
  const name = formatName(format);
  return digest === chosen?.digest ? name : `${name}, ${source}`;
}
