import { describe, expect, it } from 'vitest';
import { takeServiceEnvironment } from '../../src/config/service-environment.ts';

describe('takeServiceEnvironment', () => {
  it.each<[string, NodeJS.ProcessEnv, object]>([
    ['nothing', {}, { notifySocket: undefined, watchdogMs: undefined, listenFds: new Map() }],
    ['a path', { NOTIFY_SOCKET: '/run/n' }, { notifySocket: '/run/n' }],
    ['an abstract name', { NOTIFY_SOCKET: '@n' }, { notifySocket: '@n' }],
    ['what is no socket', { NOTIFY_SOCKET: 'tcp:1' }, { notifySocket: undefined }],
    ['a watchdog', { WATCHDOG_USEC: '30000000' }, { watchdogMs: 30_000 }],
    ['a watchdog of ours', { WATCHDOG_USEC: '1000', WATCHDOG_PID: '7' }, { watchdogMs: 1 }],
    ['a watchdog of another process', { WATCHDOG_USEC: '1000', WATCHDOG_PID: '8' }, { watchdogMs: undefined }],
    ['a watchdog that is none', { WATCHDOG_USEC: '0' }, { watchdogMs: undefined }],
    ['a watchdog in words', { WATCHDOG_USEC: '-1' }, { watchdogMs: undefined }],
    [
      'sockets',
      { LISTEN_PID: '7', LISTEN_FDS: '2', LISTEN_FDNAMES: 'snapshotter:control' },
      {
        listenFds: new Map([
          ['snapshotter', 3],
          ['control', 4],
        ]),
      },
    ],
    ['a name twice', { LISTEN_PID: '7', LISTEN_FDS: '2', LISTEN_FDNAMES: 'a:a' }, { listenFds: new Map([['a', 3]]) }],
    [
      'more names than sockets',
      { LISTEN_PID: '7', LISTEN_FDS: '1', LISTEN_FDNAMES: 'a:b' },
      { listenFds: new Map([['a', 3]]) },
    ],
    ['sockets without names', { LISTEN_PID: '7', LISTEN_FDS: '2' }, { listenFds: new Map() }],
    ['sockets of another process', { LISTEN_PID: '8', LISTEN_FDS: '1', LISTEN_FDNAMES: 'a' }, { listenFds: new Map() }],
    ['no number', { LISTEN_PID: '7', LISTEN_FDS: 'x', LISTEN_FDNAMES: 'a' }, { listenFds: new Map() }],
  ])('understands %s, and leaves none of it to children', (_what, variables, expected) => {
    const left = { ...variables, HOME: '/root' };
    expect(takeServiceEnvironment(7, left)).toMatchObject(expected);
    expect(left).toEqual({ HOME: '/root' });
  });
});
