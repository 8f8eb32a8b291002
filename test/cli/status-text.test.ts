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
