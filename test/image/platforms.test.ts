// An image index with several platforms, an attestation beside them: choosing one, and indexing all of them.
import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import type { OpenImageOptions } from '../../src/image/image.ts';
import { parsePlatform } from '../../src/oci/platform.ts';
import { ImageLab, labLayer } from '../support/image-lab.ts';
import type { LabImage } from '../support/image-lab.ts';
import { tarOf } from '../support/tar-members.ts';

const indexType = 'application/vnd.oci.image.index.v1+json';
const manifestType = 'application/vnd.oci.image.manifest.v1+json';

interface Multi {
  readonly lab: ImageLab;
  readonly reference: string;
  readonly images: readonly LabImage[];
}

async function multi(): Promise<Multi> {
  const lab = await ImageLab.start();
  const platforms = ['linux/amd64', 'linux/arm64'];
  const images: LabImage[] = [];
  for (const platform of platforms) {
    const tar = tarOf({ path: platform.replace('/', '-'), data: randomBytes(100_000) });
    images.push(await lab.push(platform.replace('/', '-'), [labLayer(tar)]));
  }
  const attestation = await lab.push('attestation', [labLayer(tarOf())]);
  const manifests = [...images, attestation].map(({ digest }, i) => {
    const [os = 'unknown', architecture = 'unknown'] = platforms[i]?.split('/') ?? [];
    return { mediaType: manifestType, digest, size: 1, platform: { os, architecture } };
  });
  for (const entry of manifests) entry.size = (await lab.registry.resolveManifest(lab.repository, entry.digest)).size;
  const index = { schemaVersion: 2, mediaType: indexType, manifests };
  await lab.registry.pushManifest(lab.repository, 'multi', Buffer.from(JSON.stringify(index)), indexType);
  return { lab, reference: `${lab.front.host}/${lab.repository}:multi`, images };
}

describe('an image of several platforms', () => {
  it('is opened for the platform asked for, and names what it has when that is another', async () => {
    const { lab, reference, images } = await multi();
    const node = await lab.node();
    const on = (platform: string): OpenImageOptions => ({ platform: parsePlatform(platform) });
    for (const [i, platform] of ['linux/amd64', 'arm64'].entries()) {
      const image = await node.openImage(reference, on(platform));
      expect(image.digest).toBe(images[i]?.digest);
      await image.close();
    }
    await expect(node.openImage(reference, on('linux/s390x'))).rejects.toMatchObject({
      code: 'ERR_IMAGE_PLATFORM',
      message: expect.stringMatching(/multi has no image for linux\/s390x; it has linux\/amd64, linux\/arm64$/),
    });
  });

  it('is indexed, listed, pushed and forgotten for all of them, attestations left out', async () => {
    const { lab, reference, images } = await multi();
    const { indexes } = await lab.node();
    const all = { allPlatforms: true };
    const reports = await indexes.create(reference, { ...all, minLayerSize: 0, push: true });
    expect(reports.map(({ image, pushed }) => [image, pushed])).toEqual(images.map(({ digest }) => [digest, true]));
    const made = reports.flatMap(({ indexes: { peel, soci } }) => [peel, soci]);
    expect(new Set(made).size).toBe(4);
    expect(made).not.toContain(undefined);
    expect((await indexes.listRemote(reference, all)).map(({ index }) => index)).toEqual(made);
    expect((await indexes.push(reference, all)).map(({ index }) => index)).toEqual(made);
    expect(new Set(await indexes.remove(reference, all))).toEqual(new Set(made));
    expect(indexes.list()).toEqual([]);
    await expect(indexes.remove(reference, all)).rejects.toMatchObject({ code: 'ERR_IMAGE_INDEX' });
  });
});
