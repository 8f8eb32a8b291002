// npm run bench [-- QUESTION...] [--json FILE] [--full] [--profile]: every figure is a ratio measured in this run, or a figure of memory.
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { coldFile } from './cold-file.ts';
import { containerStart } from './container-start.ts';
import { indexBuild } from './index-build.ts';
import { metadata } from './metadata.ts';
import { mountMemory } from './mount-memory.ts';
import { peelIndex } from './peel-index.ts';
import { reads } from './reads.ts';
import { readiness } from './readiness.ts';
import { registryBlobs } from './registry-blobs.ts';
import { registryRanges } from './registry-ranges.ts';
import { snapshotterPrepare } from './snapshotter-prepare.ts';
import { restart } from './restart.ts';
import { requireRoot } from './support/machine.ts';
import { printTable } from './support/result.ts';
import { unpack } from './unpack.ts';

const questions = [
  metadata,
  reads,
  coldFile,
  indexBuild,
  mountMemory,
  registryBlobs,
  registryRanges,
  containerStart,
  snapshotterPrepare,
  unpack,
  peelIndex,
  readiness,
  restart,
];

const { values, positionals } = parseArgs({
  options: {
    json: { type: 'string' },
    full: { type: 'boolean', default: false },
    profile: { type: 'boolean', default: false },
  },
  allowPositionals: true,
});
const chosen =
  positionals.length === 0 ? questions : questions.filter((question) => positionals.includes(question.name));
if (chosen.length === 0) {
  process.stderr.write(`no such question; there are: ${questions.map((question) => question.name).join(', ')}\n`);
  process.exit(2);
}
requireRoot();
const results: Record<string, unknown> = {};
for (const question of chosen) {
  process.stderr.write(`${question.name}: ${question.asks}\n`);
  const rows = await question.run(values);
  results[question.name] = rows;
  printTable(question.name, rows);
}
if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(results, undefined, 2)}\n`);
