// What a unit of ours must not have, and why. Each of the first group gives a service a mount namespace: the options that
// exec_needs_mount_namespace() of systemd's src/core/execute.c asks for, in 252 and later.

const namespace = 'its own mount namespace: containerd would not see what the daemon mounts';
const devices = 'a list of devices without /dev/fuse';

/** A value of each that has its effect in systemd 252; undefined where it takes more than a value, or a later systemd. */
const namespaceOptions: Readonly<Record<string, string | undefined>> = {
  PrivateTmp: 'yes',
  PrivateDevices: 'yes',
  PrivateMounts: 'yes',
  PrivateIPC: 'yes',
  ProtectSystem: 'full',
  ProtectHome: 'read-only',
  ProtectKernelTunables: 'yes',
  ProtectKernelModules: 'yes',
  ProtectKernelLogs: 'yes',
  ProtectControlGroups: 'yes',
  ProtectProc: 'invisible',
  ProcSubset: 'pid',
  ReadWritePaths: '/mnt',
  ReadOnlyPaths: '/mnt',
  InaccessiblePaths: '/mnt',
  ReadWriteDirectories: '/mnt',
  ReadOnlyDirectories: '/mnt',
  InaccessibleDirectories: '/mnt',
  ExecPaths: '/mnt',
  NoExecPaths: '/mnt',
  BindPaths: '/mnt',
  BindReadOnlyPaths: '/mnt',
  TemporaryFileSystem: '/mnt',
  MountFlags: 'slave',
  RootDirectory: undefined,
  RootImage: undefined,
  RootEphemeral: undefined,
  MountImages: undefined,
  ExtensionImages: undefined,
  ExtensionDirectories: undefined,
  MountAPIVFS: undefined,
  DynamicUser: undefined,
  LogNamespace: undefined,
  IPCNamespacePath: undefined,
  JoinsNamespaceOf: undefined,
  PrivateNetwork: undefined,
  NetworkNamespacePath: undefined,
  PrivatePIDs: undefined,
  PrivateBPF: undefined,
  BindLogSockets: undefined,
};

export const forbiddenOptions: ReadonlyMap<string, string> = new Map([
  ...Object.keys(namespaceOptions).map((key) => [key, namespace] as const),
  ['MemoryDenyWriteExecute', 'V8 writes machine code and runs it'],
  ['PrivateUsers', 'a user namespace, which has no rights over the mounts of the machine'],
  ['User', 'only root mounts'],
  ['Group', 'only root mounts'],
  ['ProtectClock', devices],
  ['DevicePolicy', devices],
  ['DeviceAllow', devices],
  ['RestrictFileSystems', 'erofs, fuse and overlay are what it mounts'],
  ['RestrictSUIDSGID', 'the upper directory of a container has the setgid bit of the directory / of its image'],
]);

/** Options with a value that shows on systemd 252 that they belong to the first group. */
export const shownByNamespace: readonly (readonly [string, string])[] = Object.entries(namespaceOptions).flatMap(
  ([key, value]) => (value === undefined ? [] : [[key, value] as const]),
);
