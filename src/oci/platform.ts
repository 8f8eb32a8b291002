// Platforms as `os/architecture[/variant]`, normalised and matched as containerd does it.
import { endianness } from 'node:os';
import type { Descriptor } from './descriptor.ts';
import { OciError } from './errors.ts';

/** OCI image spec, image-index.md#platform. */
export interface Platform {
  readonly architecture: string;
  readonly os: string;
  readonly 'os.version'?: string;
  readonly 'os.features'?: readonly string[];
  readonly variant?: string;
}

const architectureAliases: ReadonlyMap<string, string> = new Map([
  ['x86_64', 'amd64'],
  ['x86-64', 'amd64'],
  ['x64', 'amd64'],
  ['aarch64', 'arm64'],
  ['i386', '386'],
  ['i486', '386'],
  ['i686', '386'],
  ['ia32', '386'],
  ['armhf', 'arm/v7'],
  ['armel', 'arm/v6'],
  ['ppc64el', 'ppc64le'],
  ['loongarch64', 'loong64'],
]);

/** `linux/arm64`, `linux/arm/v7`, or an architecture alone, which means linux. Errors: ERR_OCI_PLATFORM. */
export function parsePlatform(text: string): Platform {
  const parts = text.split('/');
  if (parts.length > 3 || !parts.every((part) => /^[A-Za-z0-9_.-]{1,64}$/.test(part))) {
    throw new OciError(
      'ERR_OCI_PLATFORM',
      `not a platform: ${JSON.stringify(text.slice(0, 200))} (expected os/architecture[/variant])`,
    );
  }
  const [first = '', second, variant] = parts;
  if (second !== undefined) return platform(first, second, variant);
  if (!isKnownArchitecture(first)) {
    throw new OciError(
      'ERR_OCI_PLATFORM',
      `unknown architecture: ${JSON.stringify(first)} (expected os/architecture[/variant])`,
    );
  }
  return platform('linux', first, undefined);
}

export function formatPlatform(value: Platform): string {
  return [value.os, value.architecture, ...(value.variant === undefined ? [] : [value.variant])].join('/');
}

/** The platform of this machine. Images are Linux images wherever we run. */
export function hostPlatform(): Platform {
  const { arch } = process;
  if (arch === 'arm') {
    const version = (process.config.variables as { readonly arm_version?: string }).arm_version;
    return platform('linux', 'arm', version === undefined ? undefined : `v${version}`);
  }
  if ((arch as string) === 'ppc64' && endianness() === 'LE') return platform('linux', 'ppc64le', undefined);
  return platform('linux', arch, undefined);
}

/** The same platform in the spelling of the spec: `x86_64` is `amd64`, `arm64/v8` is `arm64`, `arm` is `arm/v7`. */
export function normalizePlatform(value: Platform): Platform {
  const { architecture, os, variant, ...rest } = value;
  return { ...platform(os, architecture, variant), ...rest };
}

/**
 * The manifest of an image index that runs on `wanted`, the best one first in rank and then in the index; undefined when there is none.
 * An index with one single entry that does not say its platform means that entry.
 */
export function selectManifest(manifests: readonly Descriptor[], wanted: Platform): Descriptor | undefined {
  const acceptable = runnablePlatforms(normalizePlatform(wanted)).map(formatPlatform);
  let best: Descriptor | undefined;
  let bestRank = acceptable.length;
  for (const manifest of manifests) {
    if (manifest.platform === undefined) continue;
    const rank = acceptable.indexOf(formatPlatform(normalizePlatform(manifest.platform)));
    if (rank >= 0 && rank < bestRank) [best, bestRank] = [manifest, rank];
  }
  if (best === undefined && manifests.length === 1 && manifests[0]?.platform === undefined) return manifests[0];
  return best;
}

/** Whether an image made for `candidate` runs where `wanted` does. */
export function platformMatches(candidate: Platform, wanted: Platform): boolean {
  return runnablePlatforms(normalizePlatform(wanted))
    .map(formatPlatform)
    .includes(formatPlatform(normalizePlatform(candidate)));
}

/** What a machine runs, best first: itself, then the older variants of its architecture, then its 32-bit form. */
function runnablePlatforms(value: Platform): Platform[] {
  const { os, architecture, variant } = value;
  const of = (arch: string, variants: readonly string[]) => variants.map((v) => platform(os, arch, v));
  if (architecture === 'amd64') {
    const level = variantNumber(variant) ?? 1;
    const older = descending(level, 2).map((n) => `v${n}`);
    return [...of('amd64', older), platform(os, 'amd64', undefined), platform(os, '386', undefined)];
  }
  if (architecture === 'arm')
    return of(
      'arm',
      descending(variantNumber(variant) ?? 7, 5).map((n) => `v${n}`),
    );
  if (architecture === 'arm64') {
    const own = platform(os, 'arm64', variant);
    const base = platform(os, 'arm64', undefined);
    return [own, ...(variant === undefined ? [] : [base]), ...of('arm', ['v8', 'v7', 'v6', 'v5'])];
  }
  return [platform(os, architecture, variant)];
}

function descending(from: number, to: number): number[] {
  return Array.from({ length: Math.max(0, from - to + 1) }, (_, i) => from - i);
}

function variantNumber(variant: string | undefined): number | undefined {
  const digits = /^v(\d)$/.exec(variant ?? '')?.[1];
  return digits === undefined ? undefined : Number(digits);
}

function platform(os: string, architecture: string, variant: string | undefined): Platform {
  const lower = architecture.toLowerCase();
  const [arch = lower, impliedVariant] = (architectureAliases.get(lower) ?? lower).split('/');
  const normalOs = os.toLowerCase() === 'macos' ? 'darwin' : os.toLowerCase();
  const normal = normalVariant(arch, variant === undefined || variant === '' ? impliedVariant : variant.toLowerCase());
  return { architecture: arch, os: normalOs, ...(normal === undefined ? {} : { variant: normal }) };
}

function normalVariant(architecture: string, variant: string | undefined): string | undefined {
  const withV = variant !== undefined && /^\d$/.test(variant) ? `v${variant}` : variant;
  if (architecture === 'arm') return withV ?? 'v7';
  // v8 and v1 are what the architecture means without a variant.
  if (architecture === 'arm64' && withV === 'v8') return undefined;
  if (architecture === 'amd64' && withV === 'v1') return undefined;
  return withV;
}

function isKnownArchitecture(text: string): boolean {
  const name = text.toLowerCase();
  const known = ['amd64', 'arm64', 'arm', '386', 'ppc64le', 's390x', 'riscv64', 'loong64', 'mips64le'];
  return known.includes(name) || architectureAliases.has(name);
}
