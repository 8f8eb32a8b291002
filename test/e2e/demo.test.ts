// The demo is what a stranger runs first.
import { readdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { describe, expect, it } from 'vitest';
import { packedDemoImage } from '../support/demo-image.ts';
import { mountsBelow } from '../support/leftovers.ts';
import { canMount } from '../support/peel-node.ts';
import { peel } from '../support/run.ts';

interface Report {
  layerBytes: number;
  unpackedBytes: number;
  lazyShare: number;
  lazy: { output: string; traffic: { layerBytes: number } };
  eager: { output: string; traffic: { layerBytes: number } };
}

describe.skipIf(!canMount)('the demo', () => {
  it('mounts an image of 300 MB for less than 30 % of its bytes, and leaves nothing behind', {
    timeout: 240_000,
  }, async () => {
    await packedDemoImage();
    const { code, out, err } = await peel(['demo', '--json'], { timeout: 230_000 });
    expect({ code, err: code === 0 ? '' : err }).toEqual({ code: 0, err: '' });
    const report = JSON.parse(out) as Report;
    expect(report.unpackedBytes).toBeGreaterThan(300e6);
    expect(report.lazyShare).toBeGreaterThan(0.001);
    expect(report.lazyShare).toBeLessThan(0.3);
    expect(report.eager.traffic.layerBytes).toBe(report.layerBytes);
    expect(report.lazy.output).toBe(report.eager.output);
    expect(Number(/files opened by the interpreter: (\d+)/.exec(report.lazy.output)?.[1])).toBeGreaterThan(100);
    expect(readdirSync(tmpdir()).filter((name) => name.startsWith('peel-demo-'))).toEqual([]);
    expect(mountsBelow(tmpdir()).filter((point) => point.includes('peel-demo'))).toEqual([]);
  });
});
