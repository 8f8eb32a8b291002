/** Names from the outermost table to the key. */
export type KeyPath = readonly string[];

const longestShown = 64;

/** As TOML writes it: `snapshotter.mode`, `host."a b"`; shortened when somebody wrote a novel. */
export function showKey(path: KeyPath): string {
  return path
    .map((name) => {
      const shown = name.length > longestShown ? `${name.slice(0, longestShown)}…` : name;
      return /^[A-Za-z0-9_-]+$/.test(shown) ? shown : JSON.stringify(shown);
    })
    .join('.');
}
