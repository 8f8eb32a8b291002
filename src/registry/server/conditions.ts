// Conditional requests (RFC 9110 section 13). Content is addressed by its digest, which is its entity tag too.
import type { IncomingHttpHeaders } from 'node:http';
import type { Digest } from '../../oci/digest.ts';

export function entityTag(digest: Digest): string {
  return `"${digest}"`;
}

/** Whether the client has it already: If-None-Match, compared weakly. */
export function isUnchanged(headers: IncomingHttpHeaders, digest: Digest): boolean {
  const known = headers['if-none-match'];
  if (known === undefined) return false;
  return known.trim() === '*' || known.split(',').some((tag) => tag.trim().replace(/^W\//, '') === entityTag(digest));
}

/** The Range header, unless If-Range says that it is about other content: then the whole is answered. */
export function rangeFor(headers: IncomingHttpHeaders, digest: Digest): string | undefined {
  const condition = headers['if-range'];
  return condition === undefined || condition === entityTag(digest) ? headers.range : undefined;
}
