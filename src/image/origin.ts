import type { Descriptor } from '../oci/descriptor.ts';
import type { Reference } from '../oci/reference.ts';
import type { RateLimit, Registry } from '../registry/registry.ts';

/** The repository that an image's bytes come from. */
export interface Origin {
  readonly registry: Registry;
  readonly repository: string;
  /** A reference, as a person writes it, without tag and digest: `localhost:5000/app`, `oci:/dir`, `oci-archive:/file`. */
  readonly name: string;
  /** False for a layout or an archive on disk: asking it costs no request. */
  readonly remote: boolean;
  /** What a reference without tag and digest means, where that is not the tag `latest`. Errors: RegistryError. */
  readonly resolveDefault?: (() => Promise<Descriptor>) | undefined;
  /** What the registry said last of how much it lets us pull. */
  readonly rateLimit?: (() => RateLimit | undefined) | undefined;
}

/** Errors: RegistryError or OciError when the place cannot be used at all. */
export type OpenOrigin = (reference: Reference) => Promise<Origin>;
