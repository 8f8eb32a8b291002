// What the built code is asked to do, one thing after the other in one process. A message has the whole environment and either the words of
// a command line, answered with what dist/cli/main.js would have written and its exit code, or the body of a function that works on an
// open node. For what ends by itself.
import { openNode } from '../../dist/daemon/node.js';
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

async function command(args) {
  written = { out: [], err: [] };
  const code = await runCli(args);
  // A process has one command line, which leaves its listeners to the end.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.removeAllListeners(signal);
  for (const stream of [process.stdout, process.stderr]) stream.removeAllListeners('error');
  return { code, stdout: Buffer.concat(written.out), stderr: Buffer.concat(written.err) };
}

const AsyncFunction = (async () => {}).constructor;

async function script({ root, body }) {
  let said = '';
  const node = await openNode({ root, logLevel: 'silent' });
  try {
    await new AsyncFunction('node', 'say', body)(node, (value) => (said += JSON.stringify(value)));
  } finally {
    await node.close();
  }
  return said;
}

async function answer({ args, node, env }) {
  for (const name of Object.keys(process.env)) if (env[name] === undefined) delete process.env[name];
  Object.assign(process.env, env);
  if (args !== undefined) return await command(args);
  try {
    return { code: 0, stdout: Buffer.from(await script(node)), stderr: Buffer.alloc(0) };
  } catch (error) {
    return { code: 1, stdout: Buffer.alloc(0), stderr: Buffer.from(`${error.code}: ${error.message}\n${error.stack}`) };
  }
}

process.on('message', (line) => void answer(line).then((answered) => process.send(answered)));
process.on('disconnect', () => process.exit());
