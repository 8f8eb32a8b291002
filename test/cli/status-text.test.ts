import { describe, expect, it } from 'vitest';
import { statusLines } from '../../src/cli/status-text.ts';
import type { StatusReport } from '../../src/daemon/status-report.ts';

const digest = (letter: string) => `sha256:${letter.repeat(64)}`;
const base: StatusReport = {
  version: '1.2.3',
  pid: 7,
  startedAt: 1_000,
  root: '/var/lib/peel',
  runDir: '/run/peel',
  restartNeeded: [],
  warnings: [],
  mounts: [],
};
const snapshotter = {
  socket: '/run/peel/snapshotter.sock',
  layers: [],
  deferrals: { mode: 0, no_index: 0 },
  snapshots: { view: 0, active: 0, committed: 0 },
};

describe('peel status', () => {
  it('is short where nothing is', () => {
    expect(statusLines({ ...base, snapshotter }, 3_000)).toEqual([
      'peel 1.2.3, process 7, up for 2.0 s',
      'state in /var/lib/peel, sockets in /run/peel',
      '',
      'Snapshotter on /run/peel/snapshotter.sock: no snapshots',
    ]);
  });

  it('says which registries are left alone, and no word of the others', () => {
    const answering = { failures: 0, failingMs: 0, askedInMs: 0, why: undefined, state: 'answering' } as const;
    const away = { failures: 6, failingMs: 9_000, askedInMs: 1_500, why: 'connection refused', state: 'away' } as const;
    const registries = [
      { host: 'r.example', endpoint: 'm.example', ...away },
      { host: 'r.example', endpoint: 'r.example', ...away, state: 'probing' as const },
      { host: 's.example', endpoint: 's.example', ...answering },
    ];
    expect(statusLines({ ...base, registries }, 3_000).slice(2)).toEqual([
      'm.example for registry r.example fails for 9.0 s, 6 times in a row, asked again in 1.5 s: connection refused',
      'registry r.example fails for 9.0 s, 6 times in a row, it is being asked: connection refused',
    ]);
  });

  it('says what counts, and keeps its tables narrow', () => {
    const lazy = {
      slot: 1,
      layer: digest('a'),
      serving: 'lazy' as const,
      transport: 'kernel',
      presentBytes: 1,
      streamSize: 2,
    };
    const layers = [
      {
        ...lazy,
        why: `zTOC ${digest('f')}`,
        images: ['r/one:1', 'r/two:1', 'r/three:1'],
        lastError: `bad\n${digest('a')}`,
      },
      { layer: digest('b'), serving: 'unpacked', why: 'no index', images: ['r/one:1'] },
    ] as const;
    const counted = {
      ...snapshotter,
      layers,
      deferrals: { mode: 0, no_index: 1 },
      snapshots: { active: 1, committed: 2 },
    };
    expect(statusLines({ ...base, snapshotter: counted }, 3_000).slice(3)).toEqual([
      'Snapshotter on /run/peel/snapshotter.sock: 1 active, 2 committed snapshots',
      'layers left to containerd since the start: 1 no_index',
      'IMAGE               TRANSPORT  LAYER                SERVED    HERE  WHY',
      'r/one:1 and 2 more  kernel     sha256:aaaaaaaaaaaa  lazy      50 %  zTOC sha256:ffffffffffff',
      'r/one:1                        sha256:bbbbbbbbbbbb  unpacked        no index',
      'last error of sha256:aaaaaaaaaaaa: bad sha256:aaaaaaaaaaaa',
    ]);
  });
});
