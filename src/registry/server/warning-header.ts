/** The Warning header of every answer (distribution spec, "Warnings"). Errors: TypeError for a text that cannot be sent. */
export function warningHeader(text: string | undefined): Readonly<Record<string, string>> {
  if (text === undefined) return {};
  const header = `299 - "${text.replace(/["\\]/g, '\\$&')}"`;
  if (!/^[\x20-\x7e]+$/.test(header) || header.length > 4_096)
    throw new TypeError('a warning is at most 4 KiB of printable ASCII on one line');
  return { warning: header };
}
