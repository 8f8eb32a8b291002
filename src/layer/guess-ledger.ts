// What guesses cost and whether they were right. A guess that may not be spent on is kept as well: it shows when guessing pays again.
import { Accuracy } from './accuracy.ts';
import { type GuessKind, guessKinds } from './guess.ts';

/** A guess is wrong when it was not read for so long and for so many other first touches. */
const patience = { ms: 5000, touches: 64 };
const mostEntries = 8192;
/** Below, guesses from what lies around are not spent on. */
const leastAccuracy = 0.3;
/** What was guessed wrong stays charged until it is read after all: the surer guesses must have something left then. */
const shares: Readonly<Record<GuessKind, number>> = { sequence: 1, file: 3 / 4, neighbours: 1 / 2, region: 1 / 2 };
/** The whole budget from here on, a sixteenth of it at nothing. */
const fullAccuracy = 0.6;
const leastShare = 1 / 16;

interface Entry {
  /** Undefined for what came without a guess, beside something that was asked for. */
  readonly kind: GuessKind | undefined;
  /** Bytes of blob. */
  readonly bytes: number;
  readonly at: number;
  readonly touches: number;
  /** `tried`: not asked for. */
  state: 'tried' | 'asked' | 'landed';
}

export class GuessLedger {
  readonly #budget: number;
  readonly #room: () => number;
  /** In the order of the guesses. */
  readonly #open = new Map<number, Entry>();
  readonly #wrong = new Map<number, Entry>();
  readonly #byKind = new Map(guessKinds.map((kind) => [kind, new Accuracy()]));
  readonly #overall = new Accuracy();
  #charged = 0;
  #touches = 0;

  /** `room`: bytes that there may be now whatever the budget says. */
  constructor(budget: number, room: () => number = () => Infinity) {
    this.#budget = budget;
    this.#room = room;
  }

  /** 0 to 1. */
  get accuracy(): number {
    return this.#overall.value;
  }

  /** Bytes of blob that were asked for or fetched and are not read, less what right guesses made up for. */
  get charged(): number {
    return this.#charged;
  }

  /** How many of them there may be now. */
  get allowance(): number {
    return this.#budget * (leastShare + (1 - leastShare) * Math.min(1, this.accuracy / fullAccuracy));
  }

  /** Notes a guess; whether the span is to be asked for. */
  guess(span: number, guess: { readonly kind: GuessKind; readonly bytes: number; readonly at: number }): boolean {
    const { kind, bytes, at } = guess;
    const known = this.#open.get(span) ?? this.#wrong.get(span);
    if (known !== undefined && known.state !== 'tried') return false;
    const pays = kind === 'sequence' || kind === 'file' || this.#of(kind).value >= leastAccuracy;
    const asks = pays && this.#charged + bytes <= Math.min(this.allowance * shares[kind], this.#room());
    if (known !== undefined && !asks) return false;
    if (known !== undefined) this.#remove(span, known);
    this.#open.set(span, { kind, bytes, at, touches: this.#touches, state: asks ? 'asked' : 'tried' });
    if (asks) this.#charged += bytes;
    forgetOldest(this.#open);
    return asks;
  }

  /** A span was read for the first time. */
  touched(span: number, at: number): void {
    this.#touches += 1;
    const open = this.#open.get(span);
    const wrong = this.#wrong.get(span);
    if (open !== undefined) {
      this.#remove(span, open);
      for (const accuracy of this.#accuraciesOf(open)) accuracy.right(open.bytes);
      this.#forgive(open.bytes);
    } else if (wrong !== undefined) {
      this.#remove(span, wrong);
      for (const accuracy of this.#accuraciesOf(wrong)) accuracy.rightAfterAll(wrong.bytes);
    }
    this.#judge(at);
  }

  /** Bytes of blob that nobody read yet came with class read-ahead. */
  landed(span: number, bytes: number, at: number): void {
    const entry = this.#open.get(span) ?? this.#wrong.get(span);
    if (entry?.state === 'asked') {
      entry.state = 'landed';
      return;
    }
    if (entry?.state === 'landed') return;
    if (entry !== undefined) this.#remove(span, entry);
    this.#open.set(span, { kind: entry?.kind, bytes, at, touches: this.#touches, state: 'landed' });
    this.#charged += bytes;
  }

  /** It came for another reason: the guess costs nothing. */
  landedOtherwise(span: number): void {
    const entry = this.#open.get(span);
    if (entry?.state !== 'asked') return;
    entry.state = 'tried';
    this.#charged -= entry.bytes;
  }

  #judge(now: number): void {
    for (const [span, entry] of this.#open) {
      if (now - entry.at < patience.ms || this.#touches - entry.touches < patience.touches) return;
      // What did not come was given up: nothing was spent, and nobody knows.
      if (entry.state === 'asked') {
        this.#remove(span, entry);
        continue;
      }
      this.#open.delete(span);
      this.#wrong.set(span, entry);
      for (const accuracy of this.#accuraciesOf(entry)) accuracy.wrong(entry.bytes);
      forgetOldest(this.#wrong);
    }
  }

  /** So many bytes were guessed right: as many of those that were wrong are forgotten, or the budget would be gone for good some day. */
  #forgive(bytes: number): void {
    let left = bytes;
    for (const [span, entry] of this.#wrong) {
      if (entry.bytes > left) return;
      left -= entry.bytes;
      this.#remove(span, entry);
    }
  }

  #remove(span: number, entry: Entry): void {
    this.#open.delete(span);
    this.#wrong.delete(span);
    if (entry.state !== 'tried') this.#charged -= entry.bytes;
  }

  #accuraciesOf({ kind }: Entry): Accuracy[] {
    return kind === undefined ? [this.#overall] : [this.#of(kind), this.#overall];
  }

  #of(kind: GuessKind): Accuracy {
    return this.#byKind.get(kind) as Accuracy;
  }
}

/** Of guesses that cost nothing; of the others there are as many as the budget has room for. */
function forgetOldest(entries: Map<number, Entry>): void {
  if (entries.size <= mostEntries) return;
  for (const [span, { state }] of entries) {
    if (state !== 'tried') continue;
    entries.delete(span);
    return;
  }
}
