// The daemon's configuration: every key, its form and its default. `{}` is valid.
import { z } from 'zod';
import { byteSize, duration } from './units.ts';

const absolutePath = z.string().regex(/^\//, 'expected an absolute path');
const logLevel = z.enum(['debug', 'info', 'warn', 'error', 'silent']);

export const configSchema = z.strictObject({
  root: absolutePath.default('/var/lib/peel'),
  run_dir: absolutePath.default('/run/peel'),
  log: z.strictObject({ level: logLevel.default('info') }).prefault({}),
  control: z.strictObject({ socket: absolutePath.optional() }).prefault({}),
  metrics: z.strictObject({ address: z.string().optional() }).prefault({}),
  snapshotter: z
    .strictObject({
      enabled: z.boolean().default(true),
      socket: absolutePath.optional(),
      mode: z.enum(['lazy', 'defer']).default('lazy'),
      transport: z.enum(['auto', 'kernel', 'native']).default('auto'),
      prepare_timeout: duration.default(60_000),
      whole_layer_limit: byteSize.default(64 << 20),
    })
    .prefault({}),
  index: z
    .strictObject({
      formats: z.strictObject({ soci_v1: z.boolean().default(true), soci_v2: z.boolean().default(true) }).prefault({}),
      choice: z.enum(['newest', 'oldest', 'registry']).default('newest'),
    })
    .prefault({}),
  read: z.strictObject({ deadline: duration.default(60_000) }).prefault({}),
  download: z
    .strictObject({
      per_node: z.int().min(1).max(1024).default(16),
      per_image: z.int().min(1).max(1024).default(8),
    })
    .prefault({}),
  registry: z
    .strictObject({
      certs_dirs: z
        .array(absolutePath)
        .default(['/etc/peel/certs.d', '/etc/containerd/certs.d', '/etc/docker/certs.d']),
    })
    .prefault({}),
  credentials: z
    .strictObject({
      docker: z.boolean().default(true),
      key_file: absolutePath.optional(),
      cri: z
        .strictObject({
          enabled: z.boolean().default(false),
          socket: absolutePath.optional(),
          upstream: absolutePath.default('/run/containerd/containerd.sock'),
        })
        .prefault({}),
      kubelet: z.strictObject({ config: absolutePath.optional(), bin_dir: absolutePath.optional() }).prefault({}),
      kubeconfig: z.strictObject({ path: absolutePath.optional() }).prefault({}),
    })
    .prefault({}),
});

/** As it is used: ms for times, bytes for sizes. Frozen. */
export type DaemonConfig = z.infer<typeof configSchema>;
