/** One measured ratio: ours against a baseline that was measured in the same run on the same input. */
export interface Ratio {
  /** What was measured, e.g. `cold walk, kernel transport`. */
  readonly what: string;
  readonly unit: string;
  readonly ours: number;
  readonly baseline: number;
  /** What the baseline is, e.g. `same tree on ext4`. */
  readonly against: string;
  /** The goal for ours ÷ baseline (or for ours, when there is no baseline); undefined when the figure is only reported. */
  readonly aim?: string;
}

/** A figure with no baseline, e.g. memory. */
export interface Figure {
  readonly what: string;
  readonly unit: string;
  readonly ours: number;
  readonly aim?: string;
}

export interface RunOptions {
  /** What the default run leaves out, however long it takes. */
  readonly full: boolean;
  /** Also with profiles that were recorded on another node. */
  readonly profile: boolean;
}

export interface Question {
  readonly name: string;
  readonly asks: string;
  run(options: RunOptions): Promise<readonly (Ratio | Figure)[]>;
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const high = sorted[middle];
  if (high === undefined) throw new RangeError('median of nothing');
  const low = sorted[middle - 1];
  return sorted.length % 2 === 1 || low === undefined ? high : (low + high) / 2;
}

/** Runs `ours` and `baseline` in turn, so that a drift of the machine's speed hits both. */
export async function inTurn(
  rounds: number,
  ours: () => Promise<number>,
  baseline: () => Promise<number>,
): Promise<{ ours: number; baseline: number }> {
  const [a = 0, b = 0] = await allInTurn(rounds, [ours, baseline]);
  return { ours: a, baseline: b };
}

/** The same for any number of them. Returns the median of each. */
export async function allInTurn(
  rounds: number,
  contestants: readonly (() => Promise<number>)[],
): Promise<readonly number[]> {
  const figures = contestants.map((): number[] => []);
  for (let round = 0; round < rounds; round++) {
    for (const [i, contestant] of contestants.entries()) figures[i]?.push(await contestant());
  }
  return figures.map(median);
}

export function printTable(name: string, rows: readonly (Ratio | Figure)[]): void {
  const cells = rows.map((row) => [
    row.what,
    `${format(row.ours)} ${row.unit}`,
    'baseline' in row ? `${format(row.baseline)} ${row.unit}` : '-',
    'baseline' in row ? `${(row.ours / row.baseline).toFixed(2)}x` : '-',
    'against' in row ? row.against : '',
    row.aim ?? '',
  ]);
  const table = [['measured', 'peel', 'baseline', 'ratio', 'baseline is', 'aim'], ...cells];
  const widths = table[0]?.map((_, column) => Math.max(...table.map((line) => line[column]?.length ?? 0))) ?? [];
  process.stdout.write(`\n${name}\n`);
  for (const line of table) {
    process.stdout.write(
      `  ${line
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd()}\n`,
    );
  }
}

function format(value: number): string {
  if (value >= 1000) return Math.round(value).toLocaleString('en-US');
  return value >= 10 ? value.toFixed(1) : value.toPrecision(3);
}
