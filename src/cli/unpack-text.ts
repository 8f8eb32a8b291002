// What `peel status` says of layers that are being unpacked.
import type { LeaseStatus, UnpackJobStatus, UnpackStatus } from '../unpack/unpacker.ts';
import { humanDuration, percent, printable, shortDigest } from './human.ts';
import { tableLines } from './table.ts';

const columns = [
  { title: 'JOB', align: 'right' },
  { title: 'IMAGE' },
  { title: 'LAYER' },
  { title: 'STATE' },
  { title: 'HERE', align: 'right' },
  { title: 'SINCE', align: 'right' },
] as const;

/** Nothing when nothing is going on. `now`: ms since the epoch. */
export function unpackLines({ downloads, unpacks, jobs }: UnpackStatus, now: number): string[] {
  if (jobs.length === 0 && downloads.held + unpacks.held + downloads.waiting + unpacks.waiting === 0) return [];
  return [
    '',
    `Unpacking: ${leases('downloads', downloads)}; ${leases('unpacks', unpacks)}`,
    ...(jobs.length === 0
      ? []
      : tableLines(
          columns,
          jobs.map((job) => cells(job, now)),
        )),
    ...jobs.flatMap(({ job, cause }) => (cause === undefined ? [] : [`job ${job}: ${printable(cause)}`])),
  ];
}

function leases(name: string, { held, limit, perImage, waiting }: LeaseStatus): string {
  const queue = waiting === 0 ? '' : `, ${waiting} waiting`;
  return `${name} ${held} of ${limit} (at most ${perImage} of one image)${queue}`;
}

function cells({ job, image, layer, state, done, total, startedAt }: UnpackJobStatus, now: number): string[] {
  const name = state === 'in_progress' ? 'in progress' : state;
  return [
    String(job),
    printable(image),
    shortDigest(layer),
    name,
    percent(done, total),
    humanDuration(Math.max(0, now - startedAt)),
  ];
}
