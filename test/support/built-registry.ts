// The built library, for what starts threads: they are files of dist/.
export const built = (await import(
  new URL('../../dist/registry/registry.js', import.meta.url).href
)) as typeof import('../../src/registry/registry.ts');
