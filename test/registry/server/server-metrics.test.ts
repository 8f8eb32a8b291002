import { request } from 'node:http';
import { describe, expect, it, onTestFinished } from 'vitest';
import { DirRegistry } from '../../../src/registry/dir-registry.ts';
import { serveRegistry } from '../../../src/registry/serve-registry.ts';
import { content } from '../../support/registry-content.ts';
import { tempDir } from '../../support/tmp.ts';

const blob = content(2_048);

async function serving() {
  const server = await serveRegistry(new DirRegistry(tempDir()), { metrics: '127.0.0.1:0' });
  onTestFinished(async () => await server.close());
  const metricsUrl = server.metricsUrl ?? '';
  /** The samples whose line begins with `name`. */
  const samples = async (name: string) => {
    const text = await (await fetch(metricsUrl)).text();
    return text.split('\n').filter((line) => line.startsWith(`peel_registry_${name}`));
  };
  return { server, metricsUrl, samples };
}

describe('the metrics of a server', () => {
  it('count requests, bytes and durations in closed sets of labels', async () => {
    const { server, samples } = await serving();
    await fetch(`${server.url}/v2/a/blobs/uploads/?digest=${blob.descriptor.digest}`, {
      method: 'POST',
      body: blob.bytes,
    });
    for (let i = 0; i < 3; i += 1)
      await (await fetch(`${server.url}/v2/a/blobs/${blob.descriptor.digest}`)).arrayBuffer();
    await fetch(`${server.url}/v2/a/manifests/none`);
    await fetch(`${server.url}/elsewhere`, { method: 'PROPFIND' });
    await expect.poll(() => samples('requests_in_flight')).toEqual(['peel_registry_requests_in_flight 0']);
    expect(await samples('requests_total')).toEqual([
      'peel_registry_requests_total{method="POST",route="uploads",status="2xx"} 1',
      'peel_registry_requests_total{method="GET",route="blob",status="2xx"} 3',
      'peel_registry_requests_total{method="GET",route="manifest",status="4xx"} 1',
      'peel_registry_requests_total{method="other",route="unknown",status="4xx"} 1',
    ]);
    expect(await samples('received_bytes_total')).toEqual(['peel_registry_received_bytes_total{route="uploads"} 2048']);
    expect(await samples('sent_bytes_total{route="blob"}')).toEqual([
      'peel_registry_sent_bytes_total{route="blob"} 6144',
    ]);
    expect(await samples('request_duration_seconds_count{method="GET",route="blob"}')).toEqual([
      'peel_registry_request_duration_seconds_count{method="GET",route="blob"} 3',
    ]);
  });

  it('tell the uploads that are under way', async () => {
    const { server, samples } = await serving();
    const upload = request(`${server.url}/v2/a/blobs/uploads/?digest=${blob.descriptor.digest}`, {
      method: 'POST',
      headers: { 'content-length': 2_048 },
    });
    upload.on('error', () => {});
    upload.write('x');
    await expect.poll(() => samples('uploads_in_flight')).toEqual(['peel_registry_uploads_in_flight 1']);
    upload.destroy();
    await expect.poll(() => samples('uploads_in_flight')).toEqual(['peel_registry_uploads_in_flight 0']);
    expect(await samples('requests_total')).toEqual([
      'peel_registry_requests_total{method="POST",route="uploads",status="none"} 1',
    ]);
  });

  it('are at one path of an address of their own, and one server knows nothing of another', async () => {
    const [one, two] = [await serving(), await serving()];
    await fetch(`${one.server.url}/v2/`);
    await expect.poll(() => one.samples('requests_total')).toHaveLength(1);
    expect(await two.samples('requests_total')).toEqual([]);
    expect((await fetch(one.metricsUrl)).headers.get('content-type')).toMatch(/^text\/plain; version=0\.0\.4/);
    expect((await fetch(new URL('/', one.metricsUrl))).status).toBe(404);
    expect((await fetch(`${one.server.url}/metrics`)).status).toBe(404);
    await one.server.close();
    await expect(fetch(one.metricsUrl)).rejects.toThrow('fetch failed');
  });
});
