import type { ClientCertificate } from '../client/secure-context.ts';

/** What an endpoint is trusted with: content by digest, what a tag means, writing. */
export type HostCapability = 'pull' | 'resolve' | 'push';

export const allCapabilities: ReadonlySet<HostCapability> = new Set<HostCapability>(['pull', 'resolve', 'push']);

/** One place where the content of a registry can be had, and how it is reached. */
export interface HostEndpoint {
  /** Root of the API; undefined for the registry's own. */
  readonly url: URL | undefined;
  readonly capabilities: ReadonlySet<HostCapability>;
  readonly caFiles: readonly string[];
  readonly clientCertificates: readonly ClientCertificate[];
  /** Undefined when nothing was said. */
  readonly skipVerify: boolean | undefined;
  readonly headers: Readonly<Record<string, string>>;
  readonly connectTimeoutMs: number | undefined;
  /** In place of what the environment says. */
  readonly proxy: URL | undefined;
}

export interface HostConfig {
  /** In the order in which they are asked; the last is the registry, or what stands in for it. */
  readonly endpoints: readonly HostEndpoint[];
  /** Things for people to know, each naming its file. */
  readonly warnings: readonly string[];
}

/** The registry as it is without any configuration. */
export const ownEndpoint: HostEndpoint = {
  url: undefined,
  capabilities: allCapabilities,
  caFiles: [],
  clientCertificates: [],
  skipVerify: undefined,
  headers: {},
  connectTimeoutMs: undefined,
  proxy: undefined,
};
