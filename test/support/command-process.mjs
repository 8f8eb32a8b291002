// Many command lines of the built `peel`, one after the other in one process: each message has the words of one and its whole
// environment, and its answer what dist/cli/main.js would have written and its exit code. For commands that end by themselves.
import { runCli } from '../../dist/cli/program.js';

let written = { out: [], err: [] };
for (const [stream, name] of [
  [process.stdout, 'out'],
  [process.stderr, 'err'],
]) {
  stream.write = (chunk, ...rest) => {
    written[name].push(Buffer.from(chunk));
    rest.findLast((each) => typeof each === 'function')?.();
    return true;
  };
}

async function answer({ args, env }) {
  written = { out: [], err: [] };
  for (const name of Object.keys(process.env)) if (env[name] === undefined) delete process.env[name];
  Object.assign(process.env, env);
  const code = await runCli(args);
  // A process has one command line, which leaves its listeners to the end.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.removeAllListeners(signal);
  for (const stream of [process.stdout, process.stderr]) stream.removeAllListeners('error');
  process.send({ code, stdout: Buffer.concat(written.out), stderr: Buffer.concat(written.err) });
}

process.on('message', (line) => void answer(line));
process.on('disconnect', () => process.exit());
