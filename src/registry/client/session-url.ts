/**
 * The address of an upload session, out of an id that may come from a stranger; undefined when it is none. Only an upload of the one repository
 * is: else an id would be a way to any object at `endpoint`, past what the caller was limited to. Some registries continue uploads outside of their API
 * (`/artifacts-uploads/…`); those addresses must at least say so.
 */
export function sessionUrl(id: string, endpoint: URL, uploadsPath: string): URL | undefined {
  if (!URL.canParse(id)) return undefined;
  const url = new URL(id);
  if (url.origin !== endpoint.origin) return undefined;
  let path: string;
  try {
    path = decodeURIComponent(url.pathname);
  } catch {
    return undefined;
  }
  // The URL's parser has resolved the plain ones. What is left would be resolved by a server that decodes before it looks.
  if (/[\\%]|(?:^|\/)\.{1,2}(?:\/|$)/.test(path)) return undefined;
  if (path.startsWith(uploadsPath)) return /^[^/]+\/?$/.test(path.slice(uploadsPath.length)) ? url : undefined;
  return /upload/i.test(path) && !/(?:^|\/)v2(?:\/|$)/i.test(path) ? url : undefined;
}
