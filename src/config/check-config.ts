// The schema's findings in words: which key, what was expected, what was there, and which key was probably meant.
import { z } from 'zod';
import { configKeys, valueAt } from './config-keys.ts';
import type { KeyPath } from './key-path.ts';
import { showKey } from './key-path.ts';
import { nearestKey } from './nearest-key.ts';
import { configSchema } from './schema.ts';
import type { DaemonConfig } from './schema.ts';

export interface Finding {
  readonly path: KeyPath;
  /** As TOML writes it, with the place in a list. */
  readonly key: string;
  readonly what: string;
}

export type CheckedConfig = { readonly config: DaemonConfig } | { readonly findings: readonly Finding[] };

/** More than anybody reads; a file of a megabyte can hold very many unknown keys. */
const mostSuggestions = 50;

/** `document`: the tables of a file. Every problem that a key has by itself is found, not only the first. */
export function checkConfig(document: unknown): CheckedConfig {
  const parsed = configSchema.safeParse(document, { error: expectedOf });
  if (parsed.success) return { config: parsed.data };
  const findings = parsed.error.issues.flatMap((issue) =>
    issue.code === 'unrecognized_keys'
      ? unknownKeys(issue.path.map(String), issue.keys)
      : [wrongValue(document, issue)],
  );
  return { findings };
}

function unknownKeys(table: KeyPath, names: readonly string[]): Finding[] {
  const known = configKeys().map(({ path }) => path);
  return names.map((name, index) => {
    const path = [...table, name];
    const meant = index < mostSuggestions ? nearestKey(path, known) : undefined;
    const what = meant === undefined ? 'not a known key' : `not a known key, did you mean ${showKey(meant)}?`;
    return { path, key: showKey(path), what };
  });
}

function wrongValue(document: unknown, issue: z.core.$ZodIssue): Finding {
  const steps = issue.path.map(String);
  const inList = issue.path.findIndex((step) => typeof step === 'number');
  const path = inList === -1 ? steps : steps.slice(0, inList);
  const place = steps
    .slice(path.length)
    .map((step) => `[${step}]`)
    .join('');
  const what = `expected ${issue.message}, not ${showValue(valueAt(document, steps))}`;
  return { path, key: showKey(path) + place, what };
}

const typeNames: Readonly<Record<string, string>> = {
  string: 'a text',
  boolean: 'true or false',
  array: 'a list of texts',
  object: 'a table',
};

/** Where the schema has no words of its own. */
function expectedOf(issue: z.core.$ZodRawIssue): string | undefined {
  if (issue.code === 'invalid_type') return typeNames[issue.expected];
  if (issue.code === 'invalid_value') return issue.values.map((value) => JSON.stringify(value)).join(' or ');
  return undefined;
}

const longestShown = 80;

function showValue(value: unknown): string {
  if (Array.isArray(value))
    return value.every((each) => typeof each === 'string') ? shorten(JSON.stringify(value)) : 'a list';
  if (value instanceof Date) return 'a date';
  if (typeof value === 'object') return 'a table';
  // JSON has no infinity.
  const shown = typeof value === 'number' ? String(value) : (JSON.stringify(value) ?? 'nothing');
  return shorten(shown);
}

function shorten(text: string): string {
  return text.length > longestShown ? `${text.slice(0, longestShown)}…` : text;
}
