import path from 'node:path';
import { readEnvironment } from '../config/environment.ts';
import { defaultRoot } from '../config/paths.ts';
import type { CliContext } from './context.ts';

/** Where the registry of this node lies. Here --root is that folder, not the state directory. */
export function registryRoot(context: CliContext): string {
  const uid = process.getuid?.() ?? 0;
  const state = () => defaultRoot({ environment: readEnvironment(), uid });
  return path.resolve(context.options.root ?? path.join(state(), 'registry'));
}
