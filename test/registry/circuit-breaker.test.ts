import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it, onTestFinished } from 'vitest';
import { CircuitBreaker } from '../../src/registry/client/circuit-breaker.ts';
import type { CircuitBreakerOptions, EndpointStatus } from '../../src/registry/client/circuit-breaker.ts';
import { RegistryError } from '../../src/registry/errors.ts';
import type { WhenAway } from '../../src/registry/interface.ts';
import { MemoryRegistry } from '../../src/registry/memory-registry.ts';
import { mirror } from '../../src/registry/mirror.ts';
import { RemoteRegistry } from '../../src/registry/remote-registry.ts';
import { serveRegistry } from '../../src/registry/serve-registry.ts';
import { answer, everything, stall } from '../support/faults.ts';
import { content, push, readAll } from '../support/registry-content.ts';
import { RegistryFront } from '../support/registry-front.ts';
import { VirtualClock } from '../support/virtual-time.ts';

const down = new RegistryError('UNREACHABLE', 'connection refused');
const busy = new RegistryError('TOOMANYREQUESTS', 'slow down', { status: 429 });
const missing = new RegistryError('BLOB_UNKNOWN', 'not found', { status: 404 });
const noFiles = new RegistryError('UNREACHABLE', 'too many files', {
  cause: Object.assign(new Error('connect'), { code: 'EMFILE' }),
});

class Breaker extends CircuitBreaker {
  readonly changes: EndpointStatus['state'][];
  returns = 0;
  readonly clock: VirtualClock;

  constructor(options: Partial<CircuitBreakerOptions> = {}) {
    const clock = new VirtualClock();
    const changes: EndpointStatus['state'][] = [];
    super({
      name: 'r.example',
      clock,
      onChange: ({ state }) => void changes.push(state),
      onReturn: () => void (this.returns += 1),
      ...options,
    });
    this.clock = clock;
    this.changes = changes;
  }

  /** ms until it may be asked again; 0 when it was asked, with this result. */
  ask(error?: Error, whenAway: WhenAway = 'tell'): number {
    try {
      const pass = this.enter(whenAway);
      if (error === undefined) pass.answered();
      else pass.failed(error);
      return 0;
    } catch (refusal) {
      expect(refusal).toMatchObject({ code: 'UNREACHABLE', away: true });
      return (refusal as RegistryError).retryAfterMs ?? Number.NaN;
    }
  }

  fail(times: number): void {
    for (let i = 0; i < times; i += 1) expect(this.ask(down)).toBe(0);
  }

  async pass(ms: number): Promise<void> {
    this.clock.after(ms, () => {});
    await this.clock.run({ isOver: () => false, untilMs: Infinity });
  }
}

describe('CircuitBreaker', () => {
  it('leaves an endpoint alone after several failures in a row, sooner where nobody waits', () => {
    const breaker = new Breaker();
    breaker.fail(1);
    expect(breaker.ask(undefined, 'yield')).toBe(0);
    breaker.fail(2);
    expect(breaker.ask(undefined, 'yield')).toBeGreaterThanOrEqual(1_000);
    breaker.fail(3);
    expect(breaker.changes).toEqual(['away']);
    expect(breaker.ask()).toBeGreaterThan(0);
    expect(breaker.status).toMatchObject({ state: 'away', failures: 5, why: 'connection refused' });
  });

  it('stays away for longer with each failure, up to 5 s where somebody waits and 60 s where nobody does', async () => {
    const breaker = new Breaker();
    breaker.fail(5);
    const waits: number[] = [];
    for (let i = 0; i < 12; i += 1) {
      const wait = breaker.ask();
      waits.push(wait);
      expect(breaker.ask(down, 'yield')).toBeGreaterThan(wait);
      await breaker.pass(wait);
      breaker.fail(1);
    }
    expect(waits[0]).toBeLessThanOrEqual(500);
    expect(waits[2]).toBeGreaterThanOrEqual(1_000);
    for (const wait of waits.slice(5)) {
      expect(wait).toBeGreaterThanOrEqual(2_500);
      expect(wait).toBeLessThanOrEqual(5_000);
    }
    const longest = breaker.ask(down, 'yield');
    expect(longest).toBeGreaterThanOrEqual(30_000);
    expect(longest).toBeLessThanOrEqual(60_000);
    expect(breaker.changes).toEqual(['away']);
  });

  it('lets one request through at a time until one is answered', async () => {
    const breaker = new Breaker();
    breaker.fail(5);
    await breaker.pass(500);
    const probe = breaker.enter('tell');
    expect(breaker.status.state).toBe('probing');
    expect(breaker.ask()).toBeGreaterThan(0);
    expect(probe.failed(missing)).toBe(missing);
    expect(breaker.status).toMatchObject({ state: 'answering', failures: 0, why: undefined });
    expect([breaker.ask(), breaker.ask(), breaker.ask()]).toEqual([0, 0, 0]);
    expect(breaker.changes).toEqual(['away', 'answering']);
    expect(breaker.returns).toBe(1);
  });

  it('asks again when the request that was to decide was given up, or hangs', async () => {
    const breaker = new Breaker();
    breaker.fail(5);
    await breaker.pass(500);
    breaker.enter('tell').failed(new DOMException('closed', 'AbortError'));
    breaker.enter('tell');
    expect(breaker.ask()).toBeGreaterThan(0);
    await breaker.pass(5_000);
    expect(breaker.ask()).toBe(0);
  });

  it('tells who does not wait with the failure itself that it is left alone now', () => {
    const breaker = new Breaker();
    breaker.fail(4);
    const [waits, tells] = [breaker.enter('wait'), breaker.enter('tell')];
    expect(waits.failed(down)).toBe(down);
    expect(tells.failed(down)).toMatchObject({ away: true, retried: true, cause: down, code: 'UNREACHABLE' });
  });

  it('counts requests that fail together once', () => {
    const breaker = new Breaker();
    const passes = Array.from({ length: 20 }, () => breaker.enter('tell'));
    for (const pass of passes) pass.failed(down);
    expect(breaker.status.failures).toBe(1);
  });

  it('takes an answer for one, whatever it says, and blames nobody for what this machine lacks', () => {
    const breaker = new Breaker();
    for (let i = 0; i < 20; i += 1) for (const error of [busy, noFiles]) expect(breaker.ask(error)).toBe(0);
    expect(breaker.status.failures).toBe(0);
    breaker.fail(4);
    breaker.ask(missing);
    breaker.fail(4);
    expect(breaker.changes).toEqual([]);
  });

  it('tells those that stayed away that it is back even when it never was left alone by all', () => {
    const breaker = new Breaker();
    breaker.fail(3);
    breaker.ask();
    expect(breaker.returns).toBe(1);
    expect(breaker.changes).toEqual([]);
  });
});

const blob = content(10_000);

async function endpoint({ hasOthers = false } = {}) {
  const stored = new MemoryRegistry();
  await push(stored, 'a/b', blob);
  const server = await serveRegistry(stored);
  const front = await RegistryFront.start(server.host);
  const breaker = new CircuitBreaker({ name: front.host, hasOthers });
  const backoff = { attempts: 3, baseMs: 1, maxMs: 1, maxRetryAfterMs: 10_000 };
  const registry = new RemoteRegistry({ host: front.host, backoff, breaker });
  onTestFinished(async () => {
    await front.close();
    await registry.close();
    await server.close();
  });
  return { front, registry, breaker };
}

const range = async (registry: Pick<RemoteRegistry, 'getBlobRange'>, whenAway?: WhenAway) => {
  return await readAll(await registry.getBlobRange('a/b', blob.descriptor.digest, 0, 100, { whenAway }));
};

describe('a registry that is left alone', () => {
  it('is not asked while it is down, and is asked again by who waits for it', async () => {
    const { front, registry, breaker } = await endpoint();
    const end = front.interfere(everything, answer(503));
    for (let i = 0; i < 2; i += 1) await expect(range(registry)).rejects.toMatchObject({ code: 'UNAVAILABLE' });
    expect(breaker.status.state).toBe('away');
    const seen = front.requests.length;
    for (let i = 0; i < 50; i += 1) {
      const told = expect(range(registry, i % 2 === 0 ? 'tell' : 'yield')).rejects;
      await told.toMatchObject({ away: true, message: expect.stringContaining('the registry answered 503') });
    }
    expect(front.requests.length).toBeLessThanOrEqual(seen + 2);
    end();
    expect(await range(registry)).toEqual(blob.bytes.subarray(0, 100));
    expect(breaker.status).toMatchObject({ state: 'answering', failures: 0 });
  });

  it('holds nobody up when it is a mirror', async () => {
    const near = await endpoint({ hasOthers: true });
    const origin = await endpoint();
    const all = new Set(['pull', 'resolve', 'push'] as const);
    const registry = mirror(
      [near, origin].map((each) => ({ name: each.front.host, registry: each.registry, capabilities: all })),
      { cooldownMs: 0 },
    );
    near.front.interfere(everything, answer(500));
    for (let i = 0; i < 4; i += 1) await range(registry);
    expect(near.breaker.status.state).toBe('away');
    const seen = near.front.requests.length;
    const started = performance.now();
    for (let i = 0; i < 20; i += 1) expect(await range(registry)).toEqual(blob.bytes.subarray(0, 100));
    expect(performance.now() - started).toBeLessThan(1_000);
    expect(near.front.requests.length - seen).toBeLessThanOrEqual(2);
  });

  it('is not blamed for a request that its caller gave up', async () => {
    const { front, registry, breaker } = await endpoint();
    front.interfere(everything, stall().fault);
    for (let i = 0; i < 6; i += 1) {
      const ending = new AbortController();
      const asked = registry.getBlobRange('a/b', blob.descriptor.digest, 0, 100, { signal: ending.signal });
      asked.catch(() => {});
      await delay(5);
      ending.abort(new Error('not wanted any more'));
      await expect(asked).rejects.toThrow('not wanted any more');
    }
    expect(breaker.status).toMatchObject({ state: 'answering', failures: 0 });
  });
});
