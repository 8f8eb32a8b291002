/** Another process that keeps file descriptors. */
export interface FdStore {
  /** What was kept when this process came. */
  readonly received: ReadonlyMap<string, number>;
  /** From now on the caller closes it. */
  take(name: string): number | undefined;
  /** Resolves when it is kept; the fd stays the caller's. */
  store(name: string, fd: number, options?: { readonly dropWhenDead?: boolean | undefined }): Promise<void>;
  remove(name: string): Promise<void>;
}
