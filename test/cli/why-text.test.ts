import { describe, expect, it } from 'vitest';
import { whyLines } from '../../src/cli/why-text.ts';
import type { WhyOptions } from '../../src/cli/why-text.ts';
import { startReport } from '../../src/image/start-report.ts';
import type { StartTrace } from '../../src/image/start-trace.ts';
import { parseDigest } from '../../src/oci/digest.ts';
import { byteStringFromText } from '../../src/util/byte-string.ts';
import { startTrace, tracedLayers } from '../support/start-trace.ts';

const row = {
  id: 'x',
  reference: 'registry.example/team/app:1',
  image: parseDigest(`sha256:${'c'.repeat(64)}`),
  dir: '/mnt/app',
  startedAt: new Date(2026, 2, 1, 12, 0).getTime(),
};

function lines(trace: StartTrace, options: Partial<WhyOptions> = {}, change: Partial<typeof row> = {}): string[] {
  const report = startReport({ ...row, ...change }, trace, (layer, offset) =>
    layer === tracedLayers[0]
      ? byteStringFromText(`./usr/lib/python3/dist-packages/numpy/core/${offset}.so`)
      : undefined,
  );
  return whyLines(report, { sort: 'time', most: 20, columns: undefined, ...options });
}

describe('peel why', () => {
  it('draws every read that waited, and sums up', () => {
    expect(`\n${lines(startTrace()).join('\n')}\n`).toMatchInlineSnapshot(`
      "
      registry.example/team/app:1 on /mnt/app, since 2026-03-01 12:00
      watched for 1 m 0 s

          AT    WAIT  120 ms                               4.1 s  FETCHED  ASKED BY                   AVOIDED BY  PATH
      120 ms   21 ms  |#                                       |  256 KiB  demand                     profile     /usr/lib/python3/dist-packages/numpy/core/1024.so
      150 ms  400 ms  |#####                                   |  256 KiB  demand                     read-ahead  /usr/lib/python3/dist-packages/numpy/core/300000.so
      700 ms  250 ms  |     ####                               |  4.0 MiB  read-ahead, 200 ms before  registry    /usr/lib/python3/dist-packages/numpy/core/9000000.so
       1.0 s   1.0 s  |        ###########                     |  256 KiB  demand                     registry    sha256:bbbbbbbbbbbb at 512 (2 retries)
       1.1 s   3.0 s  |         ###############################|                                                  sha256:bbbbbbbbbbbb at 8192 (ENOSPC)

      needed:   11 MiB in 60 spans, of which 1.9 MiB were in the cache
      fetched:  14 MiB in 1.5 s, 9.5 MiB/s: demand 6.7 MiB, read-ahead 3.8 MiB (75 % read), background 3.8 MiB (0 % read)
      wasted:   4.8 MiB not read
      waited:   3.6 s of 1 m 0 s, 5 reads, 1 failed
      from:     registry.example/team/app
      retries:  2

      What would have avoided it
        WAIT  READS  BY
       3.0 s      1  nothing that peel knows of: it was about to be here, another process fetched it, or an error of this machine
       1.3 s      2  a nearer, faster or steadier registry: it was foreseen and came too late, or requests failed
      400 ms      1  read-ahead: what is before it in the layer had just been read
       21 ms      1  a profile of an earlier start, which asks for it before anybody reads
      "
    `);
  });

  it('fits a terminal, and lists the longest waits first where that is asked for', () => {
    const narrow = lines(startTrace(), { columns: 110, sort: 'wait', most: 3 });
    const table = narrow.slice(3, 8);
    expect(`\n${table.join('\n')}\n`).toMatchInlineSnapshot(`
      "
          AT    WAIT  150 ms                    4.1 s  FETCHED  ASKED BY  AVOIDED BY  PATH
       1.1 s   3.0 s  |      #######################|                                 …bbbbbbbbbbbb at 8192 (ENOSPC)
       1.0 s   1.0 s  |      ########               |  256 KiB  demand    registry    …bbbbbbbbbb at 512 (2 retries)
      150 ms  400 ms  |###                          |  256 KiB  demand    read-ahead  …packages/numpy/core/300000.so
      2 more waited less (--all lists them)
      "
    `);
    expect(table.every((line) => line.length <= 110)).toBe(true);
  });

  it('names the sources where there are several', () => {
    const [first, ...others] = startTrace().stalls;
    if (first?.fetch === undefined) throw new Error('no stall');
    const moved = { ...first, fetch: { ...first.fetch, source: 'mirror:5000/app@sha256:77' } };
    const shown = lines(startTrace({ stalls: [moved, ...others] }));
    expect(shown.filter((line) => line.includes('(from mirror:5000/app)'))).toHaveLength(1);
    expect(shown).toContain('from:     mirror:5000/app, registry.example/team/app');
  });

  it('says so when nothing waited, or was read', () => {
    const { totals } = startTrace();
    const calm = { ...totals, stalls: 0, failedReads: 0, waitedMs: 0 };
    const quiet = lines(startTrace({ stalls: [], totals: calm, over: false }), {}, { dir: undefined as never });
    expect(quiet.slice(0, 4)).toEqual([
      'registry.example/team/app:1 in containerd, since 2026-03-01 12:00',
      'watched for 1 m 0 s, and it goes on',
      '',
      'no read had to wait.',
    ]);
    expect(lines(startTrace({ stalls: [], totals: { ...calm, touchedSpans: 0 } }))[3]).toBe('nothing has been read.');
  });

  it('lets no name steer the terminal', () => {
    const shown = lines(startTrace(), {}, { dir: '/mnt/\u001b[2J', reference: 'r/\u0007' });
    // oxlint-disable-next-line no-control-regex -- that is what is looked for
    expect(shown.join('')).not.toMatch(/[\u0000-\u001f]/);
  });
});
