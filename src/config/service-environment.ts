// What a service manager says to the process it starts: sd_notify(3), sd_watchdog_enabled(3), sd_listen_fds(3).

export interface ServiceEnvironment {
  /** Where states are reported to. */
  readonly notifySocket: string | undefined;
  /** ms after which a service that says nothing is killed. */
  readonly watchdogMs: number | undefined;
  /** Open already, by name: sockets, and what an earlier process gave systemd to keep (FDSTORE=1). */
  readonly listenFds: ReadonlyMap<string, number>;
}

const firstFd = 3;
/** systemd hands over what its store has beside the sockets. */
const maxFds = 65_536;

/**
 * Takes the variables out of the environment: no child of ours is meant by them. What is for another process (as LISTEN_PID and
 * WATCHDOG_PID tell) or not well-formed counts as unset.
 */
export function takeServiceEnvironment(
  pid: number = process.pid,
  variables: NodeJS.ProcessEnv = process.env,
): ServiceEnvironment {
  const take = (name: string) => {
    const value = variables[name] || undefined;
    delete variables[name];
    return value;
  };
  const notifySocket = take('NOTIFY_SOCKET');
  const [watchdogPid, watchdogUsec] = [take('WATCHDOG_PID'), wholeNumber(take('WATCHDOG_USEC'))];
  const [listenPid, listenFds, listenNames] = [take('LISTEN_PID'), take('LISTEN_FDS'), take('LISTEN_FDNAMES')];
  const isWatched = watchdogUsec !== undefined && (watchdogPid === undefined || Number(watchdogPid) === pid);
  return Object.freeze({
    notifySocket: notifySocket !== undefined && /^[/@]/.test(notifySocket) ? notifySocket : undefined,
    watchdogMs: isWatched && watchdogUsec > 0 ? watchdogUsec / 1000 : undefined,
    listenFds: Number(listenPid) === pid ? named(wholeNumber(listenFds) ?? 0, listenNames) : new Map<string, number>(),
  });
}

/** What is open already, for a process that starts itself again: the variables stay. */
export function passedFds(
  pid: number = process.pid,
  variables: Readonly<NodeJS.ProcessEnv> = process.env,
): readonly number[] {
  const count = Number(variables['LISTEN_PID']) === pid ? (wholeNumber(variables['LISTEN_FDS']) ?? 0) : 0;
  return Array.from({ length: Math.min(count, maxFds) }, (_, i) => firstFd + i);
}

/** The first of several with one name counts. */
function named(count: number, names = ''): ReadonlyMap<string, number> {
  const found = new Map<string, number>();
  for (const [i, name] of names.split(':').slice(0, Math.min(count, maxFds)).entries())
    if (name !== '' && !found.has(name)) found.set(name, firstFd + i);
  return found;
}

function wholeNumber(text: string | undefined): number | undefined {
  return text !== undefined && /^\d{1,15}$/.test(text) ? Number(text) : undefined;
}
