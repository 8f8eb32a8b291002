import { fileURLToPath, pathToFileURL } from 'node:url';

/** Path of the keeper's executable, built with the addon: of this installation, or of the one whose `peel` is the script `main`. */
export function keeperProgram(main?: string): string {
  // dist/cli/main.js and src/native are as far from it.
  return fileURLToPath(
    new URL('../../native/build/Release/peel-keeper', main === undefined ? import.meta.url : pathToFileURL(main)),
  );
}
