// The face of this folder and of the package's export `peel/registry`: an OCI distribution library. Everything speaks one interface,
// `Registry`; a server, a proxy or a policy is one implementation put around another.
export type * from './interface.ts';
export type { Descriptor } from '../oci/descriptor.ts';
export { parseDigest } from '../oci/digest.ts';
export type { Digest } from '../oci/digest.ts';
export { mediaTypes } from '../oci/media-type.ts';
export { parsePlatform } from '../oci/platform.ts';
export type { Platform } from '../oci/platform.ts';
export { digestOf } from './blob-content.ts';
export { BaseRegistry } from './base-registry.ts';
export { ForwardingRegistry } from './forwarding-registry.ts';
export { funcs } from './funcs.ts';
export { RegistryError, hasCode, statusOfCode } from './errors.ts';
export type { RegistryErrorCode, RegistryErrorFacts } from './errors.ts';

// Where content lies.
export { DirRegistry } from './dir-registry.ts';
export type { GarbageCount, GarbageOptions, GarbageReport } from './store/garbage-report.ts';
export { LayoutArchive } from './layout-archive.ts';
export { LayoutRegistry } from './layout-registry.ts';
export { MemoryRegistry } from './memory-registry.ts';
export type { MemoryRegistryOptions } from './memory-registry.ts';
export { RemoteRegistry } from './remote-registry.ts';
export type { RemoteRegistryOptions } from './remote-registry.ts';

// What is put around and between them.
export { accessPolicy } from './filter/access-policy.ts';
export type { AccessCheck } from './filter/access-policy.ts';
export type { AccessKind } from './filter/gated-registry.ts';
export { immutableTags } from './filter/immutable-tags.ts';
export type { ImmutableTagsOptions } from './filter/immutable-tags.ts';
export { readOnly } from './filter/read-only.ts';
export { select } from './filter/select.ts';
export { subPath } from './filter/sub-path.ts';
export { trace } from './trace.ts';
export type { TraceEvent, TraceOutcome, TraceSink } from './trace/traced-call.ts';
export { unify } from './unify.ts';
export type { UnifyOptions } from './unify.ts';

// Reaching a registry.
export { proxyFromVariables } from './client/proxy.ts';
export type { ProxyChoice, ProxyVariables } from './client/proxy.ts';
export type { RateLimit } from './client/rate-limit.ts';
export type { ClientCertificate, TlsOptions } from './client/secure-context.ts';
// Between others and their readers.
export { mirror } from './mirror.ts';
export type { MirrorCapability, MirrorEndpoint, MirrorOptions } from './mirror.ts';
export type { FallbackEvent } from './mirror/fallback.ts';
export { pullThrough } from './pull-through.ts';
export type { PullThroughEvent, PullThroughOptions, PullThroughRegistry } from './pull-through.ts';
// Between any two of them.
export { copyImage } from './copy.ts';
export type { CopyOptions, CopyReport, CopyTarget } from './copy.ts';
export type { CopySource } from './copy/copy-plan.ts';

// Serving any of them.
export { serveRegistry } from './serve-registry.ts';
export type { CloseOptions, RegistryServer, ServeOptions } from './serve-registry.ts';
export type { RequestRecord } from './server/server-stats.ts';
export type { ServerTlsOptions } from './server/tls-files.ts';

// Credentials.
export { anonymous, firstCredentials, staticCredentials } from './auth/credentials.ts';
export type { CredentialSource, Credentials, LookupOptions } from './auth/credentials.ts';
export { DockerCredentials } from './auth/docker-config.ts';
export { userCredentials } from './auth/user-credentials.ts';
