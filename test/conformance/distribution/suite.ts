// Requirements as tests, and what a registry is known to do otherwise: its deviation is then what the test asks for, so that a test that
// cannot fail is noticed.
import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Wire } from './wire.ts';

export interface DistributionTarget {
  /** `http://127.0.0.1:34567` */
  readonly url: string;
  close(): Promise<void>;
}

/** What a registry does not do as the spec has it. `test` is looked for in `section: requirement`. */
export type Deviation = { readonly test: RegExp } & (
  | { /** Found in the message by which the test fails. */ readonly fails: RegExp }
  | { /** Why the test says nothing about this registry. */ readonly skip: string }
);

export class Suite {
  readonly #deviations: readonly Deviation[];
  readonly #used = new Set<Deviation>();
  readonly #start: () => Promise<DistributionTarget>;
  #section = '';
  #target: DistributionTarget | undefined;
  #wire: Wire | undefined;

  constructor(start: () => Promise<DistributionTarget>, deviations: readonly Deviation[]) {
    this.#start = start;
    this.#deviations = deviations;
  }

  get wire(): Wire {
    if (this.#wire === undefined) throw new Error('asked before the registry was started');
    return this.#wire;
  }

  /** A name nobody has used yet. */
  repository(): string {
    return `conf/r${randomBytes(6).toString('hex')}`;
  }

  /** Registers `sections` with vitest as the tests of the registry `name`. */
  run(name: string, sections: readonly ((suite: Suite) => void)[]): void {
    describe(`the distribution spec at ${name}`, () => {
      beforeAll(async () => {
        this.#target = await this.#start();
        this.#wire = new Wire(this.#target.url);
      });
      afterAll(async () => {
        this.#wire?.close();
        await this.#target?.close();
      });
      for (const section of sections) section(this);
      it('knows every deviation from a requirement there is', () => {
        expect(this.#deviations.filter((deviation) => !this.#used.has(deviation))).toEqual([]);
      });
    });
  }

  /** A section of the spec, or a kind of content. */
  section(name: string, register: () => void): void {
    describe(name, () => {
      const outer = this.#section;
      this.#section = name;
      register();
      this.#section = outer;
    });
  }

  requires(requirement: string, test: () => Promise<void>): void {
    const name = `${this.#section}: ${requirement}`;
    const deviation = this.#deviations.find((candidate) => candidate.test.test(name));
    if (deviation === undefined) {
      it(requirement, test);
      return;
    }
    this.#used.add(deviation);
    if ('skip' in deviation) it.skip(`${requirement} (${deviation.skip})`, test);
    else it(`${requirement}: known to be otherwise`, () => failsAsKnown(test, deviation.fails));
  }
}

async function failsAsKnown(test: () => Promise<void>, message: RegExp): Promise<void> {
  const failure = await test().then(
    () => undefined,
    (error: unknown) => error as Error,
  );
  expect(failure?.message ?? 'the requirement is met').toMatch(message);
}
