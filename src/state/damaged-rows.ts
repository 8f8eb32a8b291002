import { isDigest } from '../oci/digest.ts';
import type { Database } from './database.ts';

/** A row that says what it cannot say. */
export interface DamagedRow {
  readonly table: string;
  /** Its key, for people. */
  readonly key: string;
  readonly why: string;
  /** Whether nothing is lost with it that could not be found out again. */
  readonly mayGo: boolean;
}

interface Rules {
  readonly keys: readonly string[];
  readonly digests?: readonly string[];
  /** Digests, or NULL. */
  readonly optionalDigests?: readonly string[];
  /** JSON, or NULL. */
  readonly json?: readonly string[];
  readonly oneOf?: Readonly<Record<string, readonly string[]>>;
  readonly mayGo: boolean;
}

const formats = ['peel', 'soci-v1', 'soci-v2'];

const tables: Readonly<Record<string, Rules>> = {
  images: { keys: ['reference'], digests: ['digest'], mayGo: true },
  contents: { keys: ['digest'], digests: ['digest'], mayGo: true },
  image_indexes: { keys: ['image', 'kind'], digests: ['image'], optionalDigests: ['digest'], mayGo: true },
  layers: {
    keys: ['digest'],
    digests: ['digest', 'diff_id'],
    optionalDigests: ['index_digest'],
    oneOf: { index_format: [...formats, 'node'] },
    mayGo: true,
  },
  layer_sources: { keys: ['layer', 'reference'], digests: ['layer'], mayGo: true },
  mounts: { keys: ['id'], digests: ['digest'], mayGo: false },
  mount_layers: { keys: ['mount', 'layer'], digests: ['layer'], mayGo: false },
  slots: { keys: ['slot'], digests: ['layer'], mayGo: false },
  blobs: {
    keys: ['connection', 'node'],
    digests: ['layer'],
    oneOf: { mode: ['undecided', 'plain', 'passthrough'] },
    mayGo: false,
  },
  snapshots: {
    keys: ['key'],
    optionalDigests: ['layer'],
    oneOf: { kind: ['view', 'active', 'committed'] },
    mayGo: false,
  },
  unpack_jobs: {
    keys: ['job'],
    digests: ['layer', 'diff_id'],
    json: ['implied', 'hiding'],
    oneOf: { state: ['in_progress', 'done', 'claimed', 'failed', 'cancelled', 'expired'] },
    mayGo: true,
  },
  ztocs: { keys: ['layer'], digests: ['layer'], optionalDigests: ['ztoc'], mayGo: true },
  profiles: {
    keys: ['image', 'layer', 'index_id'],
    digests: ['image', 'layer', 'index_id'],
    json: ['spans'],
    oneOf: { format: formats },
    mayGo: true,
  },
  starts: { keys: ['id'], digests: ['image'], json: ['trace'], mayGo: true },
};

/** Every row that cannot be read as what it is. Errors: those of the database. */
export function damagedRows(db: Database): DamagedRow[] {
  return Object.entries(tables).flatMap(([table, rules]) => {
    const rows = db.prepare<[], Record<string, unknown>>(`SELECT ${columnsOf(rules).join(', ')} FROM ${table}`).all();
    return rows.flatMap((row) => {
      const why = damageOf(row, rules);
      return why === undefined ? [] : [{ table, key: keyOf(row, rules), why, mayGo: rules.mayGo }];
    });
  });
}

/** Deletes what `damagedRows` says may go; returns how many there were. */
export function deleteDamagedRows(db: Database): number {
  return db
    .transaction(() => {
      let deleted = 0;
      for (const [table, rules] of Object.entries(tables)) {
        if (!rules.mayGo) continue;
        const where = rules.keys.map((key) => `${key} IS ?`).join(' AND ');
        const remove = db.prepare(`DELETE FROM ${table} WHERE ${where}`);
        const columns = columnsOf(rules).join(', ');
        for (const row of db.prepare<[], Record<string, unknown>>(`SELECT ${columns} FROM ${table}`).all()) {
          if (damageOf(row, rules) !== undefined) deleted += remove.run(...rules.keys.map((key) => row[key])).changes;
        }
      }
      return deleted;
    })
    .immediate();
}

function columnsOf({ keys, digests = [], optionalDigests = [], json = [], oneOf = {} }: Rules): string[] {
  return [...new Set([...keys, ...digests, ...optionalDigests, ...json, ...Object.keys(oneOf)])].map(
    (name) => `"${name}"`,
  );
}

function keyOf(row: Record<string, unknown>, { keys }: Rules): string {
  return keys.map((key) => String(row[key]).slice(0, 100)).join(' ');
}

function damageOf(row: Record<string, unknown>, rules: Rules): string | undefined {
  const { digests = [], optionalDigests = [], json = [], oneOf = {} } = rules;
  const wrong =
    digests.find((column) => !isDigestText(row[column])) ??
    optionalDigests.find((column) => row[column] !== null && !isDigestText(row[column]));
  if (wrong !== undefined) return `${wrong} is no digest`;
  const unparsed = json.find((column) => row[column] !== null && !isJson(row[column]));
  if (unparsed !== undefined) return `${unparsed} is no JSON`;
  const [odd] = Object.entries(oneOf).filter(([column, values]) => !values.includes(String(row[column])));
  return odd === undefined ? undefined : `${odd[0]} is none of ${odd[1].join(', ')}`;
}

function isDigestText(value: unknown): boolean {
  return typeof value === 'string' && isDigest(value);
}

function isJson(value: unknown): boolean {
  try {
    JSON.parse(String(value));
    return true;
  } catch {
    return false;
  }
}
