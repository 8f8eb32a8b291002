import { status } from '@grpc/grpc-js';
import { describe, expect, it } from 'vitest';
import { SnapshotError } from '../../src/snapshotter/errors.ts';
import { grpcStatus } from '../../src/snapshotter/status.ts';
import { StateError } from '../../src/state/errors.ts';

describe('the status of an error', () => {
  it.each([
    [new SnapshotError('ERR_SNAPSHOT_EXISTS', 'm'), status.ALREADY_EXISTS],
    [new SnapshotError('ERR_SNAPSHOT_UNKNOWN', 'm'), status.NOT_FOUND],
    [new SnapshotError('ERR_SNAPSHOT_STATE', 'm'), status.FAILED_PRECONDITION],
    [new SnapshotError('ERR_SNAPSHOT_ARGUMENT', 'm'), status.INVALID_ARGUMENT],
    [new SnapshotError('ERR_SNAPSHOT_CANCELLED', 'm'), status.CANCELLED],
    [new SnapshotError('ERR_SNAPSHOT_LAYER', 'm'), status.UNAVAILABLE],
    [Object.assign(new Error('m'), { code: 'ENOSPC' }), status.RESOURCE_EXHAUSTED],
    [Object.assign(new Error('m'), { code: 'SQLITE_FULL' }), status.RESOURCE_EXHAUSTED],
  ])('%s', (error, code) => {
    expect(grpcStatus(error)).toEqual({ code, details: 'm' });
  });

  it.each([[new Error('m')], [new StateError('ERR_STATE_OPEN', 'm')], [{ code: 'toString' }], [undefined], ['text']])(
    'is none for what nobody foresaw: %s',
    (error) => {
      expect(grpcStatus(error)).toBeUndefined();
    },
  );

  it('is none for a code that is a property of every object', () => {
    expect(grpcStatus(Object.assign(new Error('m'), { code: 'constructor' }))).toBeUndefined();
  });
});
