import type { SnapshotRow } from '../state/snapshots.ts';
import { BoundedPattern } from './bounded-pattern.ts';
import { SnapshotError } from './errors.ts';
import { parseFilter } from './filter-text.ts';
import type { FilterTerm } from './filter-text.ts';

const maxFilters = 64;

export interface SnapshotFilter {
  /** A label that everything selected has: an index may find it. */
  readonly label: { readonly name: string; readonly value: string } | undefined;
  /** In the given order. Errors: ERR_SNAPSHOT_ARGUMENT when a regular expression takes too long. */
  select(rows: readonly SnapshotRow[]): SnapshotRow[];
}

type Selection = (rows: readonly SnapshotRow[]) => readonly SnapshotRow[];

/** Of several filters one has to match; without any, everything does. Errors: ERR_SNAPSHOT_ARGUMENT. */
export function parseFilters(texts: readonly string[]): SnapshotFilter {
  if (texts.length > maxFilters) {
    throw new SnapshotError('ERR_SNAPSHOT_ARGUMENT', `${texts.length} filters; ${maxFilters} are allowed`);
  }
  const filters = texts.map(parseFilter);
  if (filters.length === 0) return { label: undefined, select: (rows) => [...rows] };
  const selections = filters.map((terms) => terms.map(selection));
  return {
    label: filters.length === 1 ? labelOf(filters[0] ?? []) : undefined,
    select: (rows) => {
      const selected = new Set<SnapshotRow>();
      for (const filter of selections) {
        let left: readonly SnapshotRow[] = rows.filter((row) => !selected.has(row));
        for (const narrow of filter) left = narrow(left);
        for (const row of left) selected.add(row);
      }
      return rows.filter((row) => selected.has(row));
    },
  };
}

function selection(term: FilterTerm): Selection {
  const { operator, value } = term;
  switch (operator) {
    case 'present':
      return (rows) => rows.filter((row) => field(row, term) !== undefined);
    case '==':
      return (rows) => rows.filter((row) => field(row, term) === value);
    case '!=':
      return (rows) => rows.filter((row) => (field(row, term) ?? '') !== value);
    case '~=': {
      const pattern = new BoundedPattern(value);
      return (rows) => {
        const matches = pattern.test(rows.map((row) => field(row, term) ?? ''));
        return rows.filter((_row, index) => matches[index]);
      };
    }
  }
}

/** Undefined: the snapshot has no such field. */
function field(row: SnapshotRow, { field: [first, ...rest] }: FilterTerm): string | undefined {
  switch (first) {
    case 'name':
      return row.key;
    case 'parent':
      return row.parent?.key ?? '';
    case 'kind':
      return row.kind;
    case 'labels': {
      const name = rest.join('.');
      return Object.hasOwn(row.labels, name) ? row.labels[name] : undefined;
    }
    default:
      return undefined;
  }
}

function labelOf(terms: readonly FilterTerm[]): SnapshotFilter['label'] {
  const term = terms.find(({ field: [first], operator }) => first === 'labels' && operator === '==');
  return term === undefined ? undefined : { name: term.field.slice(1).join('.'), value: term.value };
}
