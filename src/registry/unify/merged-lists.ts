// Lists of two registries as one, while they stream.
import type { Descriptor } from '../../oci/descriptor.ts';
import type { Digest } from '../../oci/digest.ts';
import { hasCode } from '../errors.ts';
import type { RegistryError } from '../errors.ts';
import type { CallOptions, Registry } from '../interface.ts';
import { ofSide } from './sides.ts';
import type { Pair } from './sides.ts';

type List<T> = (registry: Registry, options: CallOptions) => AsyncIterable<T>;

interface Head {
  readonly names: AsyncIterator<string>;
  readonly position: 0 | 1;
  /** The next name; undefined when there is none. */
  name: string | undefined;
  unknown: RegistryError | undefined;
}

/** Names in lexical order, each once, of lists that are in that order. Errors: those of either side; NAME_UNKNOWN only when both say so. */
export async function* mergedNames(
  sides: Pair<Registry>,
  list: List<string>,
  options: CallOptions = {},
): AsyncGenerator<string> {
  const leaving = new AbortController();
  const signal = options.signal === undefined ? leaving.signal : AbortSignal.any([options.signal, leaving.signal]);
  const headOf = (position: 0 | 1): Head => {
    const names = list(sides[position], { signal })[Symbol.asyncIterator]();
    return { names, position, name: undefined, unknown: undefined };
  };
  const heads = [headOf(0), headOf(1)] as const;
  try {
    await Promise.all(heads.map(advance));
    options.signal?.throwIfAborted();
    if (heads[0].unknown !== undefined && heads[1].unknown !== undefined) throw heads[0].unknown;
    for (let name = smaller(heads); name !== undefined; name = smaller(heads)) {
      yield name;
      await Promise.all(heads.filter((head) => head.name === name).map(advance));
    }
  } finally {
    // A side may be in the middle of a request when the other one fails.
    leaving.abort(new DOMException('the list is not read any more', 'AbortError'));
    await Promise.allSettled(heads.map(async ({ names }) => await names.return?.()));
  }
}

/** The first side's referrers and then those that only the second has. Errors: as for names. */
export async function* mergedReferrers(
  sides: Pair<Registry>,
  list: List<Descriptor>,
  options: CallOptions = {},
): AsyncGenerator<Descriptor> {
  const seen = new Set<Digest>();
  const unknown: RegistryError[] = [];
  for (const position of [0, 1] as const) {
    try {
      for await (const referrer of list(sides[position], options)) {
        if (seen.has(referrer.digest)) continue;
        seen.add(referrer.digest);
        yield referrer;
      }
    } catch (error) {
      options.signal?.throwIfAborted();
      if (!hasCode(error, 'NAME_UNKNOWN')) throw ofSide(error, position);
      unknown.push(error);
    }
  }
  if (unknown.length === 2) throw unknown[0];
}

async function advance(head: Head): Promise<void> {
  try {
    const { done, value } = await head.names.next();
    head.name = done === true ? undefined : value;
  } catch (error) {
    head.name = undefined;
    if (!hasCode(error, 'NAME_UNKNOWN')) throw ofSide(error, head.position);
    head.unknown = error;
  }
}

function smaller([a, b]: Pair<Head>): string | undefined {
  if (a.name === undefined || b.name === undefined) return a.name ?? b.name;
  return a.name < b.name ? a.name : b.name;
}
