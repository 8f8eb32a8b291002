import type { LayerIndexFormat } from '../state/layers.ts';

/** Which formats may be looked for; one that is named by its digest is used whatever these say. */
export interface IndexFormats {
  readonly peel: boolean;
  readonly soci_v1: boolean;
  readonly soci_v2: boolean;
}

export const allFormats: IndexFormats = { peel: true, soci_v1: true, soci_v2: true };

const keys: Readonly<Record<Exclude<LayerIndexFormat, 'node'>, keyof IndexFormats>> = {
  peel: 'peel',
  'soci-v1': 'soci_v1',
  'soci-v2': 'soci_v2',
};

const names: Readonly<Record<keyof IndexFormats, string>> = { peel: 'peel', soci_v1: 'SOCI v1', soci_v2: 'SOCI v2' };

/** Whether indexes of this format may be used. What the node made itself needs no leave. */
export function isFormatOn(formats: IndexFormats, format: LayerIndexFormat): boolean {
  return format === 'node' || formats[keys[format]];
}

export function isAnyFormatOn(formats: IndexFormats): boolean {
  return Object.values(keys).some((key) => formats[key]);
}

/** Names of those that are switched off, for people. */
export function switchedOff(formats: IndexFormats): string[] {
  return Object.values(keys).flatMap((key) => (formats[key] ? [] : names[key]));
}
