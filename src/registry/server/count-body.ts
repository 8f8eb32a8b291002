import type { ServerResponse } from 'node:http';
import type { RequestCount } from './server-stats.ts';

/** Counts what is handed to the connection, whoever writes it. */
export function countBody(response: ServerResponse, count: RequestCount): void {
  const write = response.write.bind(response) as (...args: unknown[]) => boolean;
  const end = response.end.bind(response) as (...args: unknown[]) => ServerResponse;
  const add = (chunk: unknown) => {
    count.setStatus(response.statusCode);
    if (chunk instanceof Uint8Array) count.addBytes(chunk.byteLength);
  };
  response.write = (...args: unknown[]) => {
    add(args[0]);
    return write(...args);
  };
  response.end = (...args: unknown[]) => {
    add(args[0]);
    return end(...args);
  };
}
