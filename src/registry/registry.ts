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
export { RegistryError, hasCode, statusOfCode } from './errors.ts';
export type { RegistryErrorCode, RegistryErrorFacts } from './errors.ts';

// Where content lies.
export { DirRegistry } from './dir-registry.ts';
export { LayoutArchive } from './layout-archive.ts';
export { LayoutRegistry } from './layout-registry.ts';
export { RemoteRegistry } from './remote-registry.ts';
export type { RemoteRegistryOptions } from './remote-registry.ts';

// Between any two of them.
export { copyImage } from './copy.ts';
export type { CopyOptions, CopyReport, CopyTarget } from './copy.ts';
export type { CopySource } from './copy/copy-plan.ts';

// Serving any of them.
export { serveRegistry } from './serve-registry.ts';
export type { RegistryServer, ServeOptions } from './serve-registry.ts';

// Credentials.
export { anonymous } from './auth/credentials.ts';
export type { CredentialSource, Credentials } from './auth/credentials.ts';
export { DockerCredentials } from './auth/docker-config.ts';
