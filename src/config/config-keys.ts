import { z } from 'zod';
import type { KeyPath } from './key-path.ts';
import { configSchema } from './schema.ts';
import { writtenForms } from './units.ts';

/** A key that the configuration may have. */
export interface ConfigKey {
  readonly path: KeyPath;
  readonly isTable: boolean;
  /** A value as the file has it, in TOML. */
  readonly write: (value: unknown) => string;
}

/** All of them in the order of the schema, a table before what is in it. */
export function configKeys(): ConfigKey[] {
  return [...keysOf(configSchema, [])];
}

/** The value of a parsed or a written configuration; undefined when there is none. */
export function valueAt(config: unknown, path: KeyPath): unknown {
  let value = config;
  for (const name of path) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, name)) return undefined;
    value = (value as Record<string, unknown>)[name];
  }
  return value;
}

function* keysOf(table: z.ZodObject, above: KeyPath): Generator<ConfigKey> {
  for (const [name, field] of Object.entries(table.shape)) {
    const schema = bare(field);
    const path = [...above, name];
    const form = writtenForms.get(schema);
    const write = (value: unknown): string =>
      Array.isArray(value)
        ? `[${value.map(write).join(', ')}]`
        : JSON.stringify(form && typeof value === 'number' ? form.write(value) : value);
    yield { path, isTable: schema instanceof z.ZodObject, write };
    if (schema instanceof z.ZodObject) yield* keysOf(schema, path);
  }
}

/** Without what says that it may be missing. */
function bare(schema: z.core.$ZodType): z.core.$ZodType {
  const isWrapped =
    schema instanceof z.ZodDefault || schema instanceof z.ZodPrefault || schema instanceof z.ZodOptional;
  return isWrapped ? bare(schema.unwrap()) : schema;
}
