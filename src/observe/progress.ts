/** One step of long work, for a person's terminal. */
export interface ProgressEvent {
  /** What is being worked on, e.g. `layer sha256:0123…`. */
  readonly what: string;
  /** Bytes done and in total (undefined when unknown). */
  readonly done: number;
  readonly total: number | undefined;
}

export type ProgressSink = (event: ProgressEvent) => void;

/** Passes at most one event per `intervalMs` and subject, and always the last one (done === total). */
export function throttleProgress(sink: ProgressSink, intervalMs = 100, now: () => number = Date.now): ProgressSink {
  const last = new Map<string, number>();
  return (event) => {
    const time = now();
    const finished = event.total !== undefined && event.done >= event.total;
    if (!finished && time - (last.get(event.what) ?? -Infinity) < intervalMs) return;
    last.set(event.what, time);
    sink(event);
  };
}
