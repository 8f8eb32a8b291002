// An image config as the config.json of a runtime (OCI image spec, conversion.md; OCI runtime spec, config.md), with the same
// surroundings that umoci and `runc spec` give: few capabilities, no new privileges, no devices but the usual ones.
import { posix } from 'node:path';
import type { JsonObject } from '../oci/json.ts';
import type { ContainerConfig } from './container-config.ts';
import type { RootfsUser } from './rootfs-user.ts';

/** Who runs a bundle without being root: the only user that there is in it, known there as root. */
export interface Rootless {
  readonly uid: number;
  readonly gid: number;
  /** The host's network is the container's: so are its name servers, when it has this file. */
  readonly resolvConf: string | undefined;
}

export interface RuntimeSpecInit {
  readonly config: ContainerConfig;
  readonly user: RootfsUser;
  readonly rootless?: Rootless | undefined;
  /** Whether its process has one; default true. */
  readonly terminal?: boolean | undefined;
}

interface Mount {
  readonly destination: string;
  readonly type: string;
  readonly source: string;
  readonly options?: readonly string[];
}

const capabilities = ['CAP_AUDIT_WRITE', 'CAP_KILL', 'CAP_NET_BIND_SERVICE'];
const defaultEnv = ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', 'TERM=xterm'];
const notAnything = ['nosuid', 'noexec', 'nodev'];

/** The document, as JSON.stringify takes it. The tree is expected in `rootfs` beside it. */
export function runtimeSpec({ config, user, rootless, terminal = true }: RuntimeSpecInit): JsonObject {
  const { uid, gid, additionalGids, home } = user;
  const groups = additionalGids.length === 0 ? {} : { additionalGids };
  return {
    ociVersion: '1.0.2',
    process: {
      terminal,
      user: rootless === undefined ? { uid, gid, ...groups } : { uid: 0, gid: 0 },
      args: config.args.length === 0 ? ['sh'] : config.args,
      env: environment(config.env, home),
      cwd: posix.resolve('/', config.workingDir),
      capabilities: { bounding: capabilities, effective: capabilities, permitted: capabilities },
      rlimits: [{ type: 'RLIMIT_NOFILE', hard: 1024, soft: 1024 }],
      noNewPrivileges: true,
    },
    root: { path: 'rootfs' },
    hostname: 'peel',
    mounts: mounts(config, rootless),
    annotations: annotations(config),
    linux: {
      ...(rootless === undefined ? privileged : unprivileged(rootless)),
      maskedPaths: [
        '/proc/acpi',
        '/proc/kcore',
        '/proc/keys',
        '/proc/latency_stats',
        '/proc/timer_list',
        '/proc/timer_stats',
        '/proc/sched_debug',
        '/proc/scsi',
        '/sys/firmware',
      ],
      readonlyPaths: ['/proc/asound', '/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/proc/sysrq-trigger'],
    },
  };
}

const privileged = {
  resources: { devices: [{ allow: false, access: 'rwm' }] },
  namespaces: ['pid', 'network', 'ipc', 'uts', 'mount'].map((type) => ({ type })),
};

function unprivileged({ uid, gid }: Rootless): JsonObject {
  return {
    uidMappings: [{ containerID: 0, hostID: uid, size: 1 }],
    gidMappings: [{ containerID: 0, hostID: gid, size: 1 }],
    namespaces: ['pid', 'ipc', 'uts', 'mount', 'user'].map((type) => ({ type })),
  };
}

/** The last of several with one name counts, at the place of the first. */
function environment(env: readonly string[], home: string | undefined): string[] {
  const values = new Map<string, string>();
  for (const entry of [...defaultEnv, ...env]) {
    const equals = entry.indexOf('=');
    const name = equals < 0 ? entry : entry.slice(0, equals);
    // Runtimes refuse one without a name.
    if (name !== '') values.set(name, equals < 0 ? '' : entry.slice(equals + 1));
  }
  if (!values.has('HOME') && home !== undefined) values.set('HOME', home);
  return [...values].map(([name, value]) => `${name}=${value}`);
}

function mounts({ volumes }: ContainerConfig, rootless: Rootless | undefined): Mount[] {
  // Group 5, tty, is none that an ordinary user could give away.
  const tty = rootless === undefined ? ['gid=5'] : [];
  return [
    { destination: '/proc', type: 'proc', source: 'proc' },
    {
      destination: '/dev',
      type: 'tmpfs',
      source: 'tmpfs',
      options: ['nosuid', 'strictatime', 'mode=755', 'size=65536k'],
    },
    {
      destination: '/dev/pts',
      type: 'devpts',
      source: 'devpts',
      options: ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620', ...tty],
    },
    {
      destination: '/dev/shm',
      type: 'tmpfs',
      source: 'shm',
      options: [...notAnything, 'mode=1777', 'size=65536k'],
    },
    { destination: '/dev/mqueue', type: 'mqueue', source: 'mqueue', options: notAnything },
    ...system(rootless),
    ...volumes.flatMap((volume) => {
      const destination = posix.resolve('/', volume);
      const options = ['rw', 'nosuid', 'nodev', 'noexec', 'relatime'];
      return destination === '/' ? [] : { destination, type: 'tmpfs', source: 'none', options };
    }),
  ];
}

function system(rootless: Rootless | undefined): Mount[] {
  if (rootless === undefined) {
    return [
      { destination: '/sys', type: 'sysfs', source: 'sysfs', options: [...notAnything, 'ro'] },
      {
        destination: '/sys/fs/cgroup',
        type: 'cgroup',
        source: 'cgroup',
        options: [...notAnything, 'relatime', 'ro'],
      },
    ];
  }
  // Without a network namespace of one's own the kernel mounts no sysfs.
  const sys = { destination: '/sys', type: 'bind', source: '/sys', options: ['rbind', ...notAnything, 'ro'] };
  const { resolvConf } = rootless;
  if (resolvConf === undefined) return [sys];
  return [sys, { destination: '/etc/resolv.conf', type: 'bind', source: resolvConf, options: ['rbind', 'ro'] }];
}

/** conversion.md, "Annotation Fields"; what the image's labels say has the last word. */
function annotations(config: ContainerConfig): Record<string, string> {
  const { exposedPorts } = config;
  const fields = {
    os: config.os,
    architecture: config.architecture,
    author: config.author,
    created: config.created,
    stopSignal: config.stopSignal,
    exposedPorts: exposedPorts.length === 0 ? undefined : exposedPorts.join(','),
  };
  const said = Object.entries(fields).flatMap(([name, value]) =>
    value === undefined ? [] : [[`org.opencontainers.image.${name}`, value] as const],
  );
  return { ...Object.fromEntries(said), ...config.labels };
}
