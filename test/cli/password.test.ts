import { PassThrough } from 'node:stream';
import { expect, it } from 'vitest';
import { passwordFromStdin } from '../../src/cli/password.ts';

const never = new AbortController().signal;

function stdin(text: string): PassThrough {
  const stream = new PassThrough();
  stream.end(text);
  return stream;
}

it('a password from stdin is all of it but its last newline', async () => {
  expect(await passwordFromStdin(stdin('se cret\n\r\n'), never)).toBe('se cret\n');
});

it('a password from stdin that never comes is waited for until the signal', async () => {
  const interrupt = new AbortController();
  const password = passwordFromStdin(new PassThrough(), interrupt.signal);
  interrupt.abort();
  await expect(password).rejects.toMatchObject({ name: 'AbortError' });
});

it.each([
  ['', /no password/],
  ['x'.repeat(70_000), /more than 65536 bytes/],
])('a password from stdin of the wrong size is refused', async (text, message) => {
  await expect(passwordFromStdin(stdin(text), never)).rejects.toThrow(message);
});
