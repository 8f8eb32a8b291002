// The run directory of nodes that are opened in the test's own process, which other test files use after this one.

/** Until what `atEnd` is given is called, which is at the end of the test or of the file. */
export function runDirectoryIs(dir: string, atEnd: (restore: () => void) => void): void {
  const before = process.env['PEEL_RUN_DIR'];
  process.env['PEEL_RUN_DIR'] = dir;
  atEnd(() => {
    if (before === undefined) delete process.env['PEEL_RUN_DIR'];
    else process.env['PEEL_RUN_DIR'] = before;
  });
}
