// Each call of the interface once, for tests of what must hold for all of them.
import { BaseRegistry } from '../../src/registry/base-registry.ts';
import { mediaTypes } from '../../src/oci/media-type.ts';
import type { AccessKind, Registry } from '../../src/registry/registry.ts';
import { content, listAll, streamOf } from './registry-content.ts';

const blob = content('a blob');

interface Call {
  readonly kind: AccessKind;
  /** Ends when all of the call has: its list is read, its body is closed. */
  readonly run: (registry: Registry, repository: string) => Promise<unknown>;
}

const { digest } = blob.descriptor;

export const everyCall: Readonly<Record<keyof Registry, Call>> = {
  getBlob: { kind: 'read', run: async (r, name) => (await r.getBlob(name, digest)).close() },
  getBlobRange: { kind: 'read', run: async (r, name) => (await r.getBlobRange(name, digest, 0, 1)).close() },
  getManifest: { kind: 'read', run: (r, name) => r.getManifest(name, digest) },
  getTag: { kind: 'read', run: (r, name) => r.getTag(name, 'x') },
  resolveBlob: { kind: 'read', run: (r, name) => r.resolveBlob(name, digest) },
  resolveManifest: { kind: 'read', run: (r, name) => r.resolveManifest(name, digest) },
  resolveTag: { kind: 'read', run: (r, name) => r.resolveTag(name, 'x') },
  pushBlob: { kind: 'write', run: (r, name) => r.pushBlob(name, blob.descriptor, () => streamOf(blob.bytes)) },
  pushBlobChunked: { kind: 'write', run: async (r, name) => await (await r.pushBlobChunked(name, undefined)).cancel() },
  resumeBlob: { kind: 'write', run: (r, name) => r.resumeBlob(name, 'f'.repeat(32), undefined) },
  mountBlob: { kind: 'write', run: (r, name) => r.mountBlob(name, name, digest) },
  pushManifest: { kind: 'write', run: (r, name) => r.pushManifest(name, 'x', blob.bytes, mediaTypes.octetStream) },
  deleteBlob: { kind: 'delete', run: (r, name) => r.deleteBlob(name, digest) },
  deleteManifest: { kind: 'delete', run: (r, name) => r.deleteManifest(name, digest) },
  deleteTag: { kind: 'delete', run: (r, name) => r.deleteTag(name, 'x') },
  repositories: { kind: 'list', run: (r) => listAll(r.repositories()) },
  tags: { kind: 'list', run: (r, name) => listAll(r.tags(name)) },
  referrers: { kind: 'list', run: (r, name) => listAll(r.referrers(name, digest)) },
};

/** From the class and not from the table, so that a call that the table lacks is seen. */
export const callNames = Object.getOwnPropertyNames(BaseRegistry.prototype).filter(
  (name): name is keyof Registry => name !== 'constructor',
);

export function callOf(name: keyof Registry): Call {
  const call = everyCall[name] as Call | undefined;
  if (call === undefined) throw new Error(`everyCall lacks ${name}`);
  return call;
}

/** Writes down the calls that reach it, with their arguments, and lets all of them fail with UNSUPPORTED. */
export function recordingRegistry(): { readonly registry: Registry; readonly calls: [name: string, ...unknown[]][] } {
  const base = new BaseRegistry();
  const calls: [name: string, ...unknown[]][] = [];
  const registry = new Proxy(base, {
    get: (target, name: keyof Registry) => {
      const call = target[name] as (...args: readonly unknown[]) => unknown;
      return (...args: readonly unknown[]) => {
        calls.push([name, ...args]);
        return call.apply(target, [...args]);
      };
    },
  });
  return { registry, calls };
}
