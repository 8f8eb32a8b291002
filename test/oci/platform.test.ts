import { describe, expect, it } from 'vitest';
import type { Descriptor } from '../../src/oci/descriptor.ts';
import { digestFromSha256 } from '../../src/oci/digest.ts';
import {
  formatPlatform,
  hostPlatform,
  normalizePlatform,
  parsePlatform,
  platformMatches,
  selectManifest,
} from '../../src/oci/platform.ts';

function manifests(...platforms: (string | undefined)[]): Descriptor[] {
  return platforms.map((text, i) => {
    const [os = '', architecture = '', variant] = text?.split('/') ?? [];
    const platform = { os, architecture, ...(variant === undefined ? {} : { variant }) };
    const digest = digestFromSha256(new Uint8Array(32).fill(i));
    return {
      mediaType: 'application/vnd.oci.image.manifest.v1+json',
      digest,
      size: i,
      ...(text === undefined ? {} : { platform }),
    };
  });
}

describe('parsePlatform', () => {
  it.each([
    ['linux/amd64', 'linux/amd64'],
    ['linux/x86_64', 'linux/amd64'],
    ['Linux/AMD64', 'linux/amd64'],
    ['amd64', 'linux/amd64'],
    ['aarch64', 'linux/arm64'],
    ['linux/arm64/v8', 'linux/arm64'],
    ['linux/arm', 'linux/arm/v7'],
    ['linux/arm/6', 'linux/arm/v6'],
    ['armhf', 'linux/arm/v7'],
    ['linux/armel', 'linux/arm/v6'],
    ['windows/amd64', 'windows/amd64'],
    ['linux/amd64/v1', 'linux/amd64'],
    ['linux/amd64/v3', 'linux/amd64/v3'],
  ])('reads %s as %s', (text, normal) => {
    expect(formatPlatform(parsePlatform(text))).toBe(normal);
  });

  it.each(['', 'linux', 'linux/', '/amd64', 'a/b/c/d', 'linux/am d64'])('refuses %j', (text) => {
    expect(() => parsePlatform(text)).toThrow(expect.objectContaining({ code: 'ERR_OCI_PLATFORM' }));
  });
});

describe('selectManifest', () => {
  it.each([
    ['linux/amd64', ['linux/arm64', 'linux/amd64'], 1],
    ['linux/amd64', ['linux/amd64/v3', 'linux/amd64'], 1],
    ['linux/amd64', ['linux/amd64/v2'], undefined],
    ['linux/amd64/v3', ['linux/amd64', 'linux/amd64/v2', 'linux/amd64/v4'], 1],
    ['linux/amd64', ['linux/386'], 0],
    ['linux/arm64', ['linux/arm/v7', 'linux/arm64/v8'], 1],
    ['linux/arm64', ['linux/arm/v5', 'linux/arm/v6'], 1],
    ['linux/arm/v7', ['linux/arm/v5', 'linux/arm/v6', 'linux/arm64'], 1],
    ['linux/arm/v6', ['linux/arm/v7'], undefined],
    ['linux/amd64', ['unknown/unknown', 'linux/amd64', 'linux/amd64'], 1],
    ['linux/amd64', [undefined], 0],
    ['linux/amd64', [undefined, undefined], undefined],
    ['linux/amd64', ['windows/amd64'], undefined],
    ['linux/amd64', [], undefined],
  ] as const)('for %s among %j takes number %s', (wanted, among, expected) => {
    expect(selectManifest(manifests(...among), parsePlatform(wanted))?.size).toBe(expected);
  });

  it('finds the platform of this machine', () => {
    const host = hostPlatform();
    expect(host.os).toBe('linux');
    expect(platformMatches(host, host)).toBe(true);
  });

  it('keeps other fields when it normalises', () => {
    expect(normalizePlatform({ os: 'windows', architecture: 'x86_64', 'os.version': '10' })).toEqual({
      os: 'windows',
      architecture: 'amd64',
      'os.version': '10',
    });
  });
});
