// Web links (RFC 8288): of all that a Link header may say, only where the next page is.
import type { HttpResponse } from './http.ts';

/**
 * The URL of the next page; undefined on the last one. Only the origin that answered is followed: a list never sends us elsewhere. That need
 * not be the one that was asked, which may have sent us there.
 */
export function nextPage({ headers, url: page }: Pick<HttpResponse, 'headers' | 'url'>): URL | undefined {
  for (const line of headers('link')) {
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
