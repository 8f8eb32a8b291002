import type { Command } from 'commander';
import type { Image, LayerStatus } from '../../image/image.ts';
import { example } from '../command.ts';
import type { CliContext } from '../context.ts';
import { humanBytes, percent, shortDigest } from '../human.ts';
import { addImageOptions, imageArgument, type ImageOptions, withImage } from '../with-image.ts';

export function define(command: Command, context: CliContext): void {
  addImageOptions(command)
    .argument('<image>', imageArgument)
    .action(async (reference: string, options: ImageOptions) => {
      await withImage(context, reference, options, async (image) => {
        if (context.options.json) await context.output.value(inspectJson(image));
        else await print(context, image);
      });
    });
  example(command, 'peel inspect localhost:5000/app:1');
}

function inspectJson(image: Image): Record<string, unknown> {
  const { reference, digest, manifest, config, warnings } = image;
  return { reference, digest, manifest, config, warnings, layers: image.layers() };
}

async function print({ output }: CliContext, image: Image): Promise<void> {
  const layers = image.layers();
  const sum = (pick: (layer: LayerStatus) => number): number => layers.reduce((total, layer) => total + pick(layer), 0);
  const compressed = sum((layer) => layer.descriptor.size);
  const stream = sum((layer) => layer.streamSize);
  const present = sum((layer) => layer.presentBytes);
  await output.line(`Reference: ${image.reference}`);
  await output.line(`Digest:    ${image.digest}`);
  await output.line(`Type:      ${image.manifest.mediaType}`);
  const { os, architecture, created } = image.config;
  await output.line(
    `Platform:  ${[os, architecture].filter((part) => typeof part === 'string').join('/') || 'not said'}`,
  );
  if (typeof created === 'string') await output.line(`Created:   ${created}`);
  await output.line(`Size:      ${humanBytes(compressed)} compressed, ${humanBytes(stream)} unpacked`);
  await output.line(`Cached:    ${humanBytes(present)} (${percent(present, stream)})`);
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
  await output.table(columns, layers.map(layerRow));
}

function layerRow(layer: LayerStatus): string[] {
  const { index } = layer;
  return [
    shortDigest(layer.descriptor.digest),
    humanBytes(layer.descriptor.size),
    humanBytes(layer.streamSize),
    percent(layer.presentBytes, layer.streamSize),
    layer.serving,
    index === undefined ? 'none' : `${index.format} from ${index.source}`,
    layer.reason,
  ];
}
