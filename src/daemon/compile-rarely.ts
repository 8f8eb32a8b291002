import { setFlagsFromString } from 'node:v8';

/** More than four times what V8 takes. In units of its own, about the bytes of bytecode that a function has run. */
const budget = 300_000;

/**
 * Has V8 optimise only what runs for long. A daemon mostly waits, and then an image comes and all of its code runs for a second: on a small node the
 * threads that compile it took half of the processors in just that second. To be called before there is much to compile; it counts for
 * all threads of the process. An engine that does not know the flag says so on stderr and goes on.
 */
export function compileRarely(): void {
  setFlagsFromString(`--interrupt-budget=${budget}`);
}
