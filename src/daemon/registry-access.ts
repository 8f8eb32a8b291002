import type { Credentials } from '../registry/auth/credentials.ts';

/** What a person says on the command line about the registries it names; it goes before docker's configuration and hosts.toml. */
export interface RegistryAccess {
  readonly credentials?: Credentials | undefined;
  /** A PEM file with certificate authorities to be trusted besides the system's. */
  readonly caFile?: string | undefined;
  /** Any certificate will do, and plain HTTP where no TLS is spoken. */
  readonly insecure?: boolean | undefined;
}
