import { errorCode, errorMessage } from '../layer/errors.ts';
import { overlayMount, unmount, unmountUnprivileged } from '../native/mounts.ts';

/** The mount calls that are not a transport's own. */
export interface MountSystem {
  /** Takes away the topmost mount at `dir`. `detach`: at once, also when it is in use. Errors: EBUSY, EINVAL and others as `code`. */
  unmount(dir: string, options: { readonly detach: boolean }): Promise<void>;
  /**
   * A writable overlay at `dir`. It keeps what is at `lower` alive by itself, so that may be unmounted afterwards.
   * Errors: with an errno as `code`.
   */
  overlay(options: {
    readonly dir: string;
    readonly lower: string;
    readonly upper: string;
    readonly work: string;
  }): Promise<void>;
}

/** By system calls for root, through fusermount3 for anybody else. */
export function mountSystem(uid: number): MountSystem {
  return {
    unmount: (dir, options) => (uid === 0 ? unmount(dir, options) : unmountAsUser(dir, options)),
    overlay: async ({ dir, lower, upper, work }) => {
      const mount = await overlayMount({ lower: [lower], upper, work, noSuidDev: true });
      await mount.attach(dir);
    },
  };
}

/** The helper has words where the system call has numbers. */
async function unmountAsUser(dir: string, options: { readonly detach: boolean }): Promise<void> {
  try {
    await unmountUnprivileged(dir, options);
  } catch (cause) {
    const text = errorMessage(cause);
    const code = /busy/i.test(text)
      ? 'EBUSY'
      : /not found|not mounted|invalid argument/i.test(text)
        ? 'EINVAL'
        : errorCode(cause);
    throw Object.assign(new Error(text, { cause }), { code });
  }
}
