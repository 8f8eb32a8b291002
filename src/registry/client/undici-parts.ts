import { createRequire } from 'node:module';

type Undici = typeof import('undici');

export type UndiciParts = Pick<Undici, 'Agent' | 'Pool' | 'ProxyAgent' | 'buildConnector'>;

/**
 * What requests go through. All of undici, with its browser interfaces, takes three times as long to load, which a process that makes ten
 * requests feels; it is loaded where its inside is another one than we know.
 */
export async function loadUndici(): Promise<UndiciParts> {
  try {
    const load = createRequire(import.meta.url);
    const { prototype } = load('undici/lib/dispatcher/dispatcher.js') as Undici['Dispatcher'];
    const parts: UndiciParts = {
      Agent: load('undici/lib/dispatcher/agent.js') as Undici['Agent'],
      Pool: load('undici/lib/dispatcher/pool.js') as Undici['Pool'],
      ProxyAgent: load('undici/lib/dispatcher/proxy-agent.js') as Undici['ProxyAgent'],
      buildConnector: load('undici/lib/core/connect.js') as Undici['buildConnector'],
    };
    // As its own main module does.
    Object.assign(prototype, load('undici/lib/api/index.js'));
    if (typeof prototype.request === 'function') return parts;
  } catch {
    // It is not where it was.
  }
  return await import('undici');
}
