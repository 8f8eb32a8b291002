// Thread that compares passwords with bcrypt hashes: a comparison takes a tenth of a second and more of computing.
import { parentPort } from 'node:worker_threads';
import { compare } from 'bcryptjs';

export interface Comparison {
  readonly id: number;
  readonly password: string;
  readonly hash: string;
}

export interface ComparisonResult {
  readonly id: number;
  readonly equal: boolean;
}

parentPort?.on('message', ({ id, password, hash }: Comparison) => {
  const answer = (equal: boolean) => {
    const result: ComparisonResult = { id, equal };
    // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread's port, not a window
    parentPort?.postMessage(result);
  };
  compare(password, hash).then(answer, () => answer(false));
});
