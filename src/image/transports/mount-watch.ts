import { mountsAt, readMountInfo } from '../mountinfo.ts';

export interface MountWatch {
  /** Settles when none of the places has its mount any more. */
  readonly gone: Promise<{ readonly reason: string }>;
  stop(): void;
}

export interface WatchedPlace {
  readonly dir: string;
  readonly fsType: string;
}

/** For servers that are not told that they were unmounted: looks into the mount table, never at a mount itself. */
export function watchMount(places: readonly WatchedPlace[], intervalMs = 500): MountWatch {
  let timer: NodeJS.Timeout | undefined;
  let stopped = false;
  const gone = new Promise<{ readonly reason: string }>((resolve) => {
    const look = async () => {
      const mounts = await readMountInfo().catch(() => undefined);
      const there = ({ dir, fsType }: WatchedPlace) =>
        mountsAt(mounts ?? [], dir).some((mount) => mount.fsType === fsType);
      if (stopped || (mounts !== undefined && !places.some(there))) {
        resolve({ reason: stopped ? 'stopped' : 'unmounted' });
        return;
      }
      timer = setTimeout(() => void look(), intervalMs);
    };
    timer = setTimeout(() => void look(), intervalMs);
  });
  return {
    gone,
    stop: () => {
      stopped = true;
      clearTimeout(timer);
    },
  };
}
