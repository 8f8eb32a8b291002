// Which images a kubelet credential provider, and each of its answers, is for (k8s.io/kubelet credentialprovider/v1: `matchImages`): the
// parts of the host between dots are globs, the port is the same, the path is a prefix.

/** As the kubelet's `URLsMatchStr`: `image` is `host[:port]/repository`. */
export function matchesImage(glob: string, image: string): boolean {
  const [pattern, target] = [split(glob), split(image)];
  return (
    pattern.port === target.port &&
    pattern.labels.length === target.labels.length &&
    target.path.startsWith(pattern.path) &&
    pattern.labels.every((label, i) => matchesLabel(label, target.labels[i] ?? ''))
  );
}

/** Puts the keys that say more first: a longer path, then fewer wildcards, then the kubelet's order, which is the reverse of the alphabet's. */
export function bySpecificity(a: string, b: string): number {
  const wildcards = (text: string) => text.replaceAll(/[^*?]/g, '').length;
  return split(b).path.length - split(a).path.length || wildcards(a) - wildcards(b) || (a < b ? 1 : -1);
}

function split(text: string) {
  const bare = text.replace(/^https?:\/\//, '');
  const slash = bare.indexOf('/');
  const [authority, path] = slash < 0 ? [bare, ''] : [bare.slice(0, slash), bare.slice(slash)];
  const [, host = '', port = ''] = /^(.*?)(?::(\d*))?$/s.exec(authority) ?? [];
  return { labels: dockerHub(host).split('.'), port, path: path === '/' ? '' : path };
}

/** The kubelet keeps Docker Hub's credentials under the name of its old index. */
function dockerHub(host: string): string {
  return host === 'index.docker.io' || host === 'registry-1.docker.io' ? 'docker.io' : host;
}

function matchesLabel(glob: string, label: string): boolean {
  // Linear: each part between two stars is taken at its first place.
  const [first = '', ...rest] = glob.split('*');
  if (!hasAt(label, first, 0)) return false;
  const last = rest.pop();
  if (last === undefined) return label.length === first.length;
  let at = first.length;
  for (const part of rest) {
    while (at <= label.length && !hasAt(label, part, at)) at += 1;
    if (at > label.length) return false;
    at += part.length;
  }
  return label.length - last.length >= at && hasAt(label, last, label.length - last.length);
}

/** `?` stands for any one character. */
function hasAt(text: string, part: string, at: number): boolean {
  if (at + part.length > text.length) return false;
  for (let i = 0; i < part.length; i += 1) if (part[i] !== '?' && part[i] !== text[at + i]) return false;
  return true;
}
