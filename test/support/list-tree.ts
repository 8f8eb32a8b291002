// The equality oracle: a directory as one line of text per name, listed by a child process.
import { run, runOk } from './run.ts';

const program = new URL('./list-tree.py', import.meta.url).pathname;

export interface ListOptions {
  /** Bytes; larger files are listed without their sha256. */
  readonly maxHash?: number;
  readonly xattrs?: boolean;
  readonly hash?: boolean;
  /** The directory is an overlay: its listings have inode numbers of their own. */
  readonly overlay?: boolean;
}

/** One line per name, in byte order of the paths; columns as in list-tree.py. */
export async function listTree(dir: string, options: ListOptions = {}): Promise<string[]> {
  const args = [program, dir];
  if (options.maxHash !== undefined) args.push('--max-hash', String(options.maxHash));
  if (options.xattrs === false) args.push('--no-xattrs');
  if (options.hash === false) args.push('--no-hash');
  if (options.overlay) args.push('--overlay');
  const text = await runOk('python3', args, { timeout: 120_000 });
  return text.split('\n').slice(0, -1);
}

/** The lines of `actual` and `expected` that differ, as a short text; empty when the trees are equal. */
export function treeDifference(actual: readonly string[], expected: readonly string[], show = 20): string {
  const wanted = new Map(expected.map((line) => [pathOf(line), line]));
  const problems: string[] = [];
  for (const line of actual) {
    const path = pathOf(line);
    const other = wanted.get(path);
    wanted.delete(path);
    if (other === undefined) problems.push(`+ ${line}`);
    else if (other !== line) problems.push(`is     ${line}\nshould ${other}`);
  }
  for (const line of wanted.values()) problems.push(`- ${line}`);
  if (problems.length > show) problems.splice(show, Infinity, `and ${problems.length - show} more`);
  return problems.join('\n');
}

/** True when the tool is there and can run. */
export async function hasTool(command: string, ...args: string[]): Promise<boolean> {
  return run(command, args).then(
    (result) => result.code === 0,
    () => false,
  );
}

function pathOf(line: string): string {
  return line.slice(0, line.indexOf('\t'));
}
