/** Whether containerd takes it for the name of a namespace or of a snapshotter (its pkg/identifiers). */
export function isIdentifier(text: string): boolean {
  return text.length <= 76 && /^[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*$/.test(text);
}
