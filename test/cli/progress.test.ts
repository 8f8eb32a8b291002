import { PassThrough } from 'node:stream';
import type { WriteStream } from 'node:tty';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { ProgressWriter } from '../../src/cli/progress.ts';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

function terminal(isTTY: boolean): { stream: WriteStream; written: () => string } {
  const stream = Object.assign(new PassThrough(), { isTTY, columns: 60 }) as unknown as WriteStream;
  let text = '';
  stream.on('data', (chunk: Buffer) => (text += chunk.toString()));
  return { stream, written: () => text };
}

const MiB = 1024 * 1024;

describe('ProgressWriter', () => {
  it('is silent in a pipe', () => {
    const { stream, written } = terminal(false);
    const progress = new ProgressWriter(stream);
    progress.report({ what: 'layer', done: 1, total: 2 });
    vi.advanceTimersByTime(5000);
    progress.close();
    expect(written()).toBe('');
  });

  it('is silent for work that ends within a second', () => {
    const { stream, written } = terminal(true);
    const progress = new ProgressWriter(stream);
    progress.report({ what: 'layer', done: 1, total: 2 });
    vi.advanceTimersByTime(900);
    progress.close();
    expect(written()).toBe('');
  });

  it('shows share, rate and what is left after a second, within the width, and removes it all at the end', () => {
    const { stream, written } = terminal(true);
    const progress = new ProgressWriter(stream);
    progress.report({ what: `layer ${'x'.repeat(100)}`, done: 0, total: 40 * MiB });
    vi.advanceTimersByTime(1999);
    progress.report({ what: `layer ${'x'.repeat(100)}`, done: 20 * MiB, total: 40 * MiB });
    vi.advanceTimersByTime(101);
    const line = written().split('\n').at(-2)?.split('\u001b[J').at(-1) ?? '';
    expect(line).toContain('50 % of 40 MiB');
    expect(line).toMatch(/\d s left {2}9\.5 MiB\/s$/);
    expect(line.length).toBeLessThanOrEqual(59);
    progress.close();
    expect(written().endsWith('\u001b[1A\r\u001b[J')).toBe(true);
  });

  it('lets control characters of a name not reach the terminal', () => {
    const { stream, written } = terminal(true);
    const progress = new ProgressWriter(stream);
    progress.report({ what: 'a\u001b]0;x\u0007b', done: 1, total: undefined });
    vi.advanceTimersByTime(2000);
    progress.close();
    expect(written()).toContain('a?]0;x?b');
  });
});
