import type { CommandModule } from './command.ts';

export interface Verb {
  readonly name: string;
  readonly summary: string;
  readonly load: () => Promise<CommandModule>;
  /** SIGHUP means something else to it than the end of a terminal. */
  readonly ownsHangup?: true;
}

/** Every command, in the order of `peel --help`. A module is loaded only when its verb is typed. */
export const verbs: readonly Verb[] = [
  {
    name: 'mount',
    summary: 'mount an image on a directory without downloading it',
    load: () => import('./commands/mount.ts'),
  },
  { name: 'umount', summary: 'unmount a directory that peel mounted', load: () => import('./commands/umount.ts') },
  { name: 'mounts', summary: 'list what is mounted', load: () => import('./commands/mounts.ts') },
  {
    name: 'pull',
    summary: 'pull an image into containerd, its layers mounted lazily',
    load: () => import('./commands/pull.ts'),
  },
  { name: 'ls', summary: 'list a directory of an image', load: () => import('./commands/ls.ts') },
  { name: 'tree', summary: 'draw a directory of an image', load: () => import('./commands/tree.ts') },
  { name: 'find', summary: 'list paths of an image that match a glob', load: () => import('./commands/find.ts') },
  { name: 'du', summary: 'sum up the sizes of directories', load: () => import('./commands/du.ts') },
  { name: 'cat', summary: 'write files of an image to stdout', load: () => import('./commands/cat.ts') },
  { name: 'stat', summary: 'show all that is known about a path', load: () => import('./commands/stat.ts') },
  { name: 'cp', summary: 'copy a file or directory out of an image', load: () => import('./commands/cp.ts') },
  { name: 'tar', summary: 'write a directory of an image as a tar archive', load: () => import('./commands/tar.ts') },
  {
    name: 'unpack',
    summary: 'unpack an image into a directory, or into a bundle that runc runs',
    load: () => import('./commands/unpack.ts'),
  },
  { name: 'diff', summary: 'compare the files of two images', load: () => import('./commands/diff.ts') },
  {
    name: 'inspect',
    summary: 'show manifest, layers, indexes and what is cached',
    load: () => import('./commands/inspect.ts'),
  },
  {
    name: 'index',
    summary: 'create, list, show, push and remove seekable indexes',
    load: () => import('./commands/index-group.ts'),
  },
  {
    name: 'record',
    summary: 'run a command in an image and record what its start touches',
    load: () => import('./commands/record.ts'),
  },
  {
    name: 'profile',
    summary: 'list, show, push and remove what starts of images touch',
    load: () => import('./commands/profile.ts'),
  },
  {
    name: 'copy',
    summary: 'copy an image between registries, layouts and archives',
    load: () => import('./commands/copy.ts'),
  },
  { name: 'cache', summary: 'list, remove and prune what is cached', load: () => import('./commands/cache.ts') },
  {
    name: 'fsck',
    summary: 'check the cache and the database, and repair them',
    load: () => import('./commands/fsck.ts'),
  },
  { name: 'login', summary: 'store credentials for a registry', load: () => import('./commands/login.ts') },
  { name: 'logout', summary: 'forget the credentials for a registry', load: () => import('./commands/logout.ts') },
  {
    name: 'registry',
    summary: 'serve an OCI registry from a directory, and clean it up',
    load: () => import('./commands/registry.ts'),
  },
  {
    name: 'config',
    summary: "print, check and explain the daemon's configuration",
    load: () => import('./commands/config.ts'),
  },
  {
    name: 'daemon',
    summary: 'serve mounts and containerd snapshots until SIGTERM',
    load: () => import('./commands/daemon.ts'),
    ownsHangup: true,
  },
  {
    name: 'keeper',
    summary: 'run the daemon so that nobody notices when it ends or is upgraded',
    load: () => import('./commands/keeper.ts'),
    ownsHangup: true,
  },
  {
    name: 'upgrade',
    summary: "replace the keeper's daemon by another version, or take it back",
    load: () => import('./commands/upgrade.ts'),
  },
  { name: 'status', summary: 'show what the daemon serves, and how', load: () => import('./commands/status.ts') },
  {
    name: 'why',
    summary: 'explain what the last start of an image waited for',
    load: () => import('./commands/why.ts'),
  },
  { name: 'logs', summary: 'show what the daemon or a mount logged', load: () => import('./commands/logs.ts') },
  {
    name: 'doctor',
    summary: 'say what this machine can do and what to mend',
    load: () => import('./commands/doctor.ts'),
  },
  {
    name: 'demo',
    summary: 'mount a real image and compare with downloading it',
    load: () => import('./commands/demo.ts'),
  },
  {
    name: 'completion',
    summary: 'print a completion script for a shell',
    load: () => import('./commands/completion.ts'),
  },
];
