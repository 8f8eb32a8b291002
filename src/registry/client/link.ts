// Web links (RFC 8288): of all that a Link header may say, only where the next page is.

/** The URL of the page after `page`; undefined on the last one. Only the same origin is followed: a list never sends us elsewhere. */
export function nextPage(headers: readonly string[], page: URL): URL | undefined {
  for (const line of headers) {
    for (const match of line.slice(0, 16_384).matchAll(/<([^<>]*)>([^<]*)/g)) {
      const [, target = '', parameters = ''] = match;
      if (!/;\s*rel\s*=\s*(?:"(?:[^"]*\s)?next(?:\s[^"]*)?"|next\b)/i.test(parameters)) continue;
      if (!URL.canParse(target, page.href)) continue;
      const url = new URL(target, page);
      if (url.origin === page.origin) return url;
    }
  }
  return undefined;
}
