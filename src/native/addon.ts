import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';

// The same from src/native (tests) and from dist/native.
const path = fileURLToPath(new URL('../../native/build/Release/peel.node', import.meta.url));

let loaded: unknown;

/**
 * The functions of the native addon; a face casts them to the interface of its component. Nothing else loads the `.node`
 * file. Throws with code ERR_NATIVE_MISSING when the addon is not built or does not load.
 */
export function addon(): unknown {
  if (loaded === undefined) {
    try {
      loaded = createRequire(import.meta.url)(path);
    } catch (cause) {
      const message = `the native addon does not load: ${cause instanceof Error ? cause.message : String(cause)}; run "npm run install" to build it`;
      throw Object.assign(new Error(message, { cause }), { code: 'ERR_NATIVE_MISSING' });
    }
  }
  return loaded;
}
