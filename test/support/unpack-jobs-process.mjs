// Lives of unpack jobs in a process of its own, to be killed: `node unpack-jobs-process.mjs ROOT NAME`. The name starts with what it takes for
// the boot, so that trees of one process are no good for another one. A tree is five files that say whose they are. It prints a line for all
// that is done; one that starts with `wrong` is for what must never be seen.
import { readFileSync, readdirSync, renameSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { silentLog } from '../../dist/observe/log.js';
import { openState } from '../../dist/state/state.js';
import { JobBook } from '../../dist/unpack/job-book.js';

const [root, name] = process.argv.slice(2);
const files = ['1', '2', '3', '4', '5'];
const layers = ['a', 'b', 'c'].map((hex) => `sha256:${hex.repeat(64)}`);
const state = openState(root);
const book = new JobBook({ root, table: state.unpackJobs, boot: name[0], log: silentLog() });
const say = (line) => writeSync(1, `${line}\n`);
const clock = new Int32Array(new SharedArrayBuffer(4));
/** A few ms in which it is well worth to be killed. */
const rest = () => Atomics.wait(clock, 0, 0, 3);
const chance = (share) => Math.random() < share;

say('working');
for (let turn = 0; ; turn += 1) {
  const layer = layers[Math.floor(Math.random() * layers.length)];
  const job = await book.begin({ layer, diffId: layer, form: 'overlay', size: 5, mediaType: 'x/y', image: 'app:1' });
  const working = `${job.folder}/working`;
  enter(working);
  const leave = () => rmSync(working);
  if (job.state === 'done') checkWhole(job.fsDir, layer);
  else if (chance(0.2)) {
    leave();
    const ends = [() => job.cancel('nobody wants it'), () => job.fail(new Error('broken')), () => job.expire()];
    ends[Math.floor(Math.random() * ends.length)]();
    say('ended');
    continue;
  } else {
    if (readdirSync(job.fsDir).length > 0) say(`wrong: the tree of job ${job.job} is not empty`);
    for (const file of files) writeFileSync(`${job.fsDir}/${file}`, layer);
    job.finished({ implied: [], hiding: [] });
    say('done');
  }
  if (chance(0.6)) {
    const key = `${name}-${turn}`;
    job.claim((dir) => {
      state.snapshots.insert({ key, kind: 'committed', labels: {}, layer });
      rest();
      renameSync(dir, `${root}/taken/${key}`);
    });
    say(`claimed ${key}`);
    leave();
    if (chance(0.7)) await job.remove();
  } else leave();
  job.close();
  if (chance(0.3)) {
    await book.collect({ now: Date.now(), expiryMs: 30, inUse: () => false });
    say('collected');
  }
}

/** Only one process that lives may be between this and leaving. */
function enter(path) {
  try {
    const pid = Number(readFileSync(path, 'utf8'));
    process.kill(pid, 0);
    say(`wrong: process ${pid} works there too`);
  } catch {
    // Nobody, or one that was killed.
  }
  writeFileSync(path, String(process.pid));
}

function checkWhole(dir, layer) {
  const found = readdirSync(dir).map((file) => readFileSync(`${dir}/${file}`, 'utf8'));
  if (found.length !== files.length || found.some((text) => text !== layer)) say(`wrong: ${dir} is not whole`);
}
