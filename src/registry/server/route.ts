// The paths of the distribution spec ("Endpoints"). Names may contain slashes and even words like `blobs`, so paths are read from
// the right.
import { RegistryError } from '../errors.ts';
import { checkRepository } from '../names.ts';

export type Route =
  | { readonly kind: 'ping' }
  | { readonly kind: 'catalog' }
  | { readonly kind: 'tags'; readonly repository: string }
  | { readonly kind: 'referrers'; readonly repository: string; readonly digest: string }
  | { readonly kind: 'manifest'; readonly repository: string; readonly name: string }
  | { readonly kind: 'blob'; readonly repository: string; readonly digest: string }
  | { readonly kind: 'uploads'; readonly repository: string }
  | { readonly kind: 'upload'; readonly repository: string; readonly id: string };

/** Undefined for a path that is none of the API. Errors: NAME_INVALID. */
export function parseRoute(pathname: string): Route | undefined {
  const path = decode(pathname);
  if (path === '/v2' || path === '/v2/') return { kind: 'ping' };
  if (path === '/v2/_catalog') return { kind: 'catalog' };
  const match = /^\/v2\/(.+)\/(tags|referrers|manifests|blobs|blobs\/uploads)\/([^/]*)$/.exec(path ?? '');
  if (match === null) return uploadsWithoutSlash(path);
  const [, name = '', what, last = ''] = match;
  if (what === 'blobs' && last === 'uploads') return { kind: 'uploads', repository: checkRepository(name) };
  // `(.+)` takes `x/blobs` when the path is `x/blobs/uploads/ID`.
  const uploads = /^(.+)\/blobs\/uploads$/.exec(`${name}/${what}`);
  if (uploads !== null) {
    const repository = checkRepository(uploads[1] ?? '');
    return last === '' ? { kind: 'uploads', repository } : { kind: 'upload', repository, id: last };
  }
  const repository = checkRepository(name);
  if (what === 'tags') return last === 'list' ? { kind: 'tags', repository } : undefined;
  if (what === 'referrers') return { kind: 'referrers', repository, digest: last };
  if (what === 'manifests') return { kind: 'manifest', repository, name: last };
  return { kind: 'blob', repository, digest: last };
}

function uploadsWithoutSlash(path: string | undefined): Route | undefined {
  const repository = /^\/v2\/(.+)\/blobs\/uploads$/.exec(path ?? '')?.[1];
  return repository === undefined ? undefined : { kind: 'uploads', repository: checkRepository(repository) };
}

function decode(pathname: string): string | undefined {
  try {
    return decodeURIComponent(pathname);
  } catch {
    throw new RegistryError('NAME_INVALID', 'the path is not valid percent-encoding');
  }
}

const methods: Readonly<Record<Route['kind'], readonly string[]>> = {
  ping: ['GET', 'HEAD'],
  catalog: ['GET', 'HEAD'],
  tags: ['GET', 'HEAD'],
  referrers: ['GET', 'HEAD'],
  manifest: ['GET', 'HEAD', 'PUT', 'DELETE'],
  blob: ['GET', 'HEAD', 'DELETE'],
  uploads: ['POST'],
  upload: ['GET', 'PATCH', 'PUT', 'DELETE'],
};

/** The methods that make sense on a path; none for a path that is none of the API. */
export function methodsOf(kind: Route['kind'] | undefined): readonly string[] {
  return kind === undefined ? [] : methods[kind];
}
