// docker-credential-NAME programs of a test's own, found through PATH while the test runs.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { onTestFinished } from 'vitest';
import { tempDir } from './tmp.ts';

export interface TestHelper {
  /** How often it was started. */
  starts(): number;
  /** What the next starts answer to `get`; the program reads it anew each time. */
  answer(username: string, secret: string): void;
}

/** `script` runs in `sh` with the verb as `$1`; by default it answers what `answer` was told. */
export function installHelper(name: string, script?: string): TestHelper {
  const bin = tempDir();
  const [answerFile, startsFile] = [path.join(bin, 'answer'), path.join(bin, 'starts')];
  const lines = ['#!/bin/sh', `echo "$@" >> ${startsFile}`, script ?? `cat ${answerFile}`];
  writeFileSync(path.join(bin, `docker-credential-${name}`), `${lines.join('\n')}\n`, { mode: 0o755 });
  const before = process.env['PATH'];
  process.env['PATH'] = `${bin}:${before}`;
  onTestFinished(() => {
    process.env['PATH'] = before;
  });
  return {
    starts: () => (existsSync(startsFile) ? readFileSync(startsFile, 'utf8').trim().split('\n').length : 0),
    answer: (username, secret) => writeFileSync(answerFile, JSON.stringify({ Username: username, Secret: secret })),
  };
}
