// What the daemon of one test counts.
import { once } from 'node:events';
import { type IncomingMessage, request } from 'node:http';
import path from 'node:path';
import type { PeelDaemon } from './peel-daemon.ts';

/** Of the series as it stands at the beginning of its line, labels included. */
export async function metricValue({ runDir }: PeelDaemon, series: string): Promise<number> {
  const sent = request({ socketPath: path.join(runDir, 'control.sock'), path: '/metrics' }).end();
  const [answer] = (await once(sent, 'response')) as [IncomingMessage];
  const text = Buffer.concat((await answer.toArray()) as Buffer[]).toString();
  const line = text.split('\n').find((each) => each.startsWith(`${series} `));
  if (line === undefined) throw new Error(`no ${series} in:\n${text}`);
  return Number(line.slice(series.length));
}

/** Bytes of blob by why they were asked for first. */
export async function fetchedBytes(daemon: PeelDaemon, fetchClass: string): Promise<number> {
  return await metricValue(daemon, `peel_layer_fetched_bytes_total{class="${fetchClass}"}`);
}
