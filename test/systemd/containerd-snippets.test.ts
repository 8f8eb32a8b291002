// What containerd.md says to write where: every snippet is valid for whom it is meant for.
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { parse as parseToml } from 'smol-toml';
import { describe, expect, it } from 'vitest';
import { parse as parseYaml } from 'yaml';
import { parseConfig } from '../../src/config/parse-config.ts';
import { configSchema } from '../../src/config/schema.ts';
import { socketPaths } from '../../src/config/sockets.ts';
import { runOk } from '../support/run.ts';
import { tempDir } from '../support/tmp.ts';
import { unitSettings } from '../support/unit-file.ts';

const folder = new URL('../../systemd/', import.meta.url).pathname;
const page = readFileSync(path.join(folder, 'containerd.md'), 'utf8');
const defaults = configSchema.parse({});
const sockets = socketPaths(defaults);

interface Snippet {
  readonly heading: string;
  readonly language: string;
  readonly text: string;
}

function snippets(): Snippet[] {
  const found: Snippet[] = [];
  let heading = '';
  for (const [, title, language = '', text = ''] of page.matchAll(/^##+ (.*)$|^```(\w+)\n([\s\S]*?)^```$/gm)) {
    if (title === undefined) found.push({ heading, language, text });
    else heading = title;
  }
  return found;
}

const all = snippets();
const forContainerd = all.filter(({ text }) => text.startsWith('# /etc/containerd/config.toml\n'));
const forPeel = all.filter(({ text }) => text.startsWith('# /etc/peel/config.toml\n'));

describe('containerd.md', () => {
  it('has a snippet for every version, and for the three ways of credentials', () => {
    expect(forContainerd.map(({ heading }) => heading)).toEqual([
      'containerd 1.6 and 1.7',
      'containerd 2.0',
      'containerd 2.1 and later',
    ]);
    expect(forPeel).toHaveLength(3);
    expect(all.filter(({ language }) => language === 'toml')).toHaveLength(6);
  });

  it.each(forContainerd)('$heading: registers the default socket and root, and no capability', ({ text }) => {
    const { proxy_plugins: plugins, plugins: others } = parseToml(text) as Record<string, unknown>;
    expect(plugins).toEqual({
      peel: {
        type: 'snapshot',
        address: sockets.snapshotter,
        exports: expect.objectContaining({ root: defaults.root }),
      },
    });
    expect(JSON.stringify(others)).toContain('"snapshotter":"peel"');
    expect(JSON.stringify(others)).toContain('"discard_unpacked_layers":false');
  });

  it('asks for annotations one way or the other', () => {
    const asked = forContainerd.map(({ text }) => [
      text.includes('disable_snapshot_annotations = false'),
      text.includes('enable_remote_snapshot_annotations = "true"'),
    ]);
    expect(asked).toEqual([
      [true, false],
      [true, false],
      [false, true],
    ]);
  });

  it.each(forPeel)('$heading: is a configuration that differs from the defaults', ({ text }) => {
    expect(parseConfig({ text, file: 'snippet' })).not.toEqual(defaults);
  });

  it('sends the kubelet to the socket of the proxy', () => {
    const documents = all.filter(({ language }) => language === 'yaml').map(({ text }) => parseYaml(text) as unknown);
    expect(documents[0]).toMatchObject({
      kind: 'KubeletConfiguration',
      containerRuntimeEndpoint: `unix://${defaults.credentials.cri.upstream}`,
      imageServiceEndpoint: `unix://${sockets.cri}`,
    });
    expect(documents).toHaveLength(2);
    expect(page.match(/unix:\/\/\/run\/peel\/\S+?\.sock/g)?.every((url) => url === `unix://${sockets.cri}`)).toBe(true);
  });

  it('names the same socket as the unit', () => {
    const unit = unitSettings(readFileSync(path.join(folder, 'peel.socket'), 'utf8'));
    expect(unit.find(({ key }) => key === 'ListenStream')?.value).toBe(sockets.snapshotter);
  });

  it('is taken by the containerd that is here, which is a 1.6', async () => {
    const file = path.join(tempDir(), 'config.toml');
    writeFileSync(file, forContainerd[0]?.text ?? '');
    const dump = parseToml(await runOk('containerd', ['--config', file, 'config', 'dump'])) as Record<string, never>;
    expect(dump['proxy_plugins']).toMatchObject({ peel: { type: 'snapshot', address: sockets.snapshotter } });
    expect(dump['plugins']?.['io.containerd.grpc.v1.cri']).toMatchObject({
      containerd: { snapshotter: 'peel', disable_snapshot_annotations: false, discard_unpacked_layers: false },
    });
  });
});
