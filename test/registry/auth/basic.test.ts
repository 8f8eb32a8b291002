import { describe, expect, it, onTestFinished } from 'vitest';
import { RemoteRegistry } from '../../../src/registry/remote-registry.ts';
import { startDockerRegistry } from '../../support/docker-registry.ts';
import { pushImage } from '../../support/registry-content.ts';
import { fixed, password } from '../../support/token-world.ts';

describe('basic authentication', () => {
  it('opens docker-registry with a password file', async () => {
    // ann : se:cret, bcrypt
    const { execFileSync } = await import('node:child_process');
    const htpasswd = execFileSync('htpasswd', ['-nbB', 'ann', 'se:cret'], { encoding: 'utf8' });
    const server = await startDockerRegistry({ htpasswd });
    const good = new RemoteRegistry({ host: server.host, credentials: fixed(password) });
    const nobody = new RemoteRegistry({ host: server.host });
    const wrong = new RemoteRegistry({ host: server.host, credentials: fixed({ ...password, password: 'x' }) });
    onTestFinished(async () => {
      for (const registry of [good, nobody, wrong]) await registry.close();
      await server.close();
    });
    await good.ping();
    const { manifest } = await pushImage(good, 'a/b', 'v1');
    expect((await good.resolveTag('a/b', 'v1')).digest).toBe(manifest.descriptor.digest);
    await expect(nobody.ping()).rejects.toMatchObject({ code: 'UNAUTHORIZED' });
    await expect(nobody.getTag('a/b', 'v1')).rejects.toMatchObject({ code: 'UNAUTHORIZED' });
    await expect(wrong.resolveTag('a/b', 'v1')).rejects.toMatchObject({ code: 'UNAUTHORIZED' });
  });
});

