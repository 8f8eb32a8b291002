// Apart from the other options: only commands that make indexes have to load what makes them.
import { InvalidArgumentError } from 'commander';
import { leastFineSpan } from '../native/stream-indexer.ts';
import { parseSize } from './options.ts';

/** Of a zTOC. Each span brings a window of 32 KiB, so that smaller ones would make an index larger than its layer. */
export function parseSpanSize(text: string): number {
  return atLeast(text, 64 << 10);
}

/** Of a peel index. */
export function parsePeelSpanSize(text: string): number {
  return atLeast(text, leastFineSpan);
}

function atLeast(text: string, least: number): number {
  const bytes = parseSize(text);
  if (bytes < least) throw new InvalidArgumentError(`a span has at least ${least >> 10}KiB`);
  return bytes;
}
