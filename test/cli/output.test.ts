import { Writable } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { CommandError, failureOf, OutputClosedError, UsageError } from '../../src/cli/errors.ts';
import { Output } from '../../src/cli/output.ts';

function slowSink(delayMs: number): { sink: Writable; chunks: Buffer[] } {
  const chunks: Buffer[] = [];
  const sink = new Writable({
    highWaterMark: 1,
    write(chunk: Buffer, _encoding, done) {
      setTimeout(() => {
        chunks.push(Buffer.from(chunk));
        done();
      }, delayMs);
    },
  });
  return { sink, chunks };
}

function failing(code: string): Writable {
  return new Writable({ write: (_chunk, _encoding, done) => done(Object.assign(new Error(code), { code })) });
}

describe('Output', () => {
  it('keeps the order of lines and bytes, and waits for a slow reader', async () => {
    const { sink, chunks } = slowSink(5);
    const output = new Output(sink);
    await output.line('first');
    const reused = Buffer.from('second\n');
    await output.bytes(reused);
    reused.fill(0);
    await output.line('third');
    await output.flush();
    expect(Buffer.concat(chunks).toString()).toBe('first\nsecond\nthird\n');
  });

  it('ends quietly when the reader went away', async () => {
    await expect(new Output(failing('EPIPE')).bytes(Buffer.from('x'))).rejects.toBeInstanceOf(OutputClosedError);
  });

  it('says what is wrong with stdout otherwise', async () => {
    await expect(new Output(failing('ENOSPC')).bytes(Buffer.from('x'))).rejects.toMatchObject({ code: 'ENOSPC' });
  });
});

describe('failureOf', () => {
  it.each([
    ['wrong usage', new UsageError('no'), false, { exitCode: 2, message: 'no', code: 'ERR_USAGE' }],
    ['a failure', new CommandError('no', { code: 'ENOENT' }), false, { exitCode: 1, message: 'no', code: 'ENOENT' }],
    ['an interruption', new Error('aborted'), true, { exitCode: 130, message: 'interrupted', code: 'ERR_INTERRUPTED' }],
    ['a closed pipe', new OutputClosedError('EPIPE'), true, { exitCode: 0, message: undefined, code: 'EPIPE' }],
    ['anything else', 'thrown text', false, { exitCode: 1, message: 'thrown text', code: 'ERR_UNEXPECTED' }],
  ])('knows %s', (_what, error, interrupted, expected) => expect(failureOf(error, interrupted)).toEqual(expected));

  it('names the reasons of an error that has no words of its own', () => {
    const error = new AggregateError([new Error('one'), new Error('two')]);
    expect(failureOf(error, false).message).toBe('one; two');
  });
});
