import { hash } from 'bcryptjs';
import { describe, expect, it, onTestFinished } from 'vitest';
import { RemoteRegistry } from '../../../src/registry/remote-registry.ts';
import { startDockerRegistry } from '../../support/docker-registry.ts';
import { pushImage } from '../../support/registry-content.ts';
import { fixed, password } from '../../support/token-world.ts';

describe('basic authentication', () => {
  it('opens docker-registry with a password file', async () => {
    const server = await startDockerRegistry({ htpasswd: `ann:${await hash('se:cret', 4)}\n` });
    const good = new RemoteRegistry({ host: server.host, credentials: fixed(password) });
    const nobody = new RemoteRegistry({ host: server.host });
    const wrong = new RemoteRegistry({
      host: server.host,
      credentials: fixed({ kind: 'password', username: 'ann', password: 'x' }),
    });
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
