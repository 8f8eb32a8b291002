// The daemon's configuration: every key, its form and its default. `{}` is valid. Messages complete "expected …".
import { z } from 'zod';
import { parseCacheLimit, parseDayHours } from './limits.ts';
import { isSocketPath, maxSocketPath, parseListenAddress } from './listen-address.ts';
import { byteSize, byteSizeWithin, duration } from './units.ts';

const logLevels = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;

const absolutePath = text('an absolute path', (path) => /^\/[^\0]*$/.test(path) && path.length <= 4096);
const socketPath = text(`an absolute path of at most ${maxSocketPath} bytes`, isSocketPath);
const listenAddress = text(
  'an address like "127.0.0.1:9464", "[::1]:9464" or "unix:/run/peel/metrics.sock"',
  (address) => parseListenAddress(address) !== undefined,
);

const decompressor = z
  .array(z.string('text'), 'a list of texts like ["/usr/bin/unpigz", "-c"]')
  .min(1, 'the path of a program and its arguments')
  .max(64, 'at most 64 arguments')
  .refine(([program]) => program === undefined || program.startsWith('/'), 'the absolute path of a program first')
  .refine(
    (command) => command.every((text) => !text.includes('\0') && text.length <= 4096),
    'texts without NUL, of at most 4096 bytes',
  );

const chunkSize = byteSizeWithin({
  expected: 'a size from "64KiB" to "1GiB" such as "8MiB" (B, KiB, MiB, GiB, TiB)',
  min: 64 << 10,
  max: 1 << 30,
});

const layerSize = byteSizeWithin({
  expected: 'a size from "1KiB" such as "512GiB" (B, KiB, MiB, GiB, TiB)',
  min: 1024,
  max: Number.MAX_SAFE_INTEGER,
});

const cacheLimit = text(
  'a size such as "100GiB", or a share of the file system such as "80%"',
  (limit) => parseCacheLimit(limit) !== undefined,
);
const dayHours = text('hours such as "22:00-06:00"', (hours) => parseDayHours(hours) !== undefined);
const percentExpected = 'a whole number from 1 to 100, in percent';
const percent = z.int(percentExpected).min(1, percentExpected).max(100, percentExpected);

export const configSchema = z.strictObject({
  root: absolutePath.default('/var/lib/peel'),
  run_dir: absolutePath.default('/run/peel'),
  log: z.strictObject({ level: z.enum(logLevels).default('info') }).prefault({}),
  control: z.strictObject({ socket: socketPath.optional() }).prefault({}),
  metrics: z.strictObject({ address: listenAddress.optional() }).prefault({}),
  snapshotter: z
    .strictObject({
      enabled: z.boolean().default(true),
      socket: socketPath.optional(),
      mode: z.enum(['lazy', 'eager', 'lazy-else-eager', 'defer']).default('lazy-else-eager'),
      transport: z.enum(['auto', 'kernel', 'native']).default('auto'),
      prepare_timeout: duration.default(60_000),
      whole_layer_limit: byteSize.default(64 << 20),
    })
    .prefault({}),
  index: z
    .strictObject({
      formats: z
        .strictObject({
          peel: z.boolean().default(true),
          soci_v1: z.boolean().default(true),
          soci_v2: z.boolean().default(true),
        })
        .prefault({}),
      choice: z.enum(['newest', 'oldest', 'registry']).default('newest'),
      publish: z.boolean().default(false),
    })
    .prefault({}),
  unpack: z
    .strictObject({
      per_node: count(1024).default(8),
      per_image: count(1024).default(4),
      chunk_size: chunkSize.default(8 << 20),
      keep_compressed: z.boolean().default(true),
      fill_cache: z.boolean().default(true),
      max_layer_size: layerSize.default(512 * 1024 ** 3),
      max_ratio: count(1_000_000).default(1100),
      reserve: byteSize.default(1 << 30),
      expiry: duration.default(7_200_000),
      collect_interval: duration.default(60_000),
      containerd: socketPath.default('/run/containerd/containerd.sock'),
      decompressors: z.strictObject({ gzip: decompressor.optional(), zstd: decompressor.optional() }).prefault({}),
    })
    .prefault({}),
  keeper: z.strictObject({ resend: z.boolean().default(true) }).prefault({}),
  read: z.strictObject({ deadline: duration.default(60_000) }).prefault({}),
  download: z.strictObject({ per_node: count(1024).default(16), per_image: count(1024).default(8) }).prefault({}),
  read_ahead: z.strictObject({ enabled: z.boolean().default(true), budget: byteSize.default(64 << 20) }).prefault({}),
  fill: z
    .strictObject({
      enabled: z.boolean().default(true),
      bandwidth: byteSize.default(0),
      hours: dayHours.optional(),
    })
    .prefault({}),
  profile: z.strictObject({ record: z.boolean().default(true), use: z.boolean().default(true) }).prefault({}),
  cache: z
    .strictObject({
      limit: cacheLimit.default('80%'),
      high: percent.default(95),
      low: percent.default(85),
    })
    .prefault({}),
  scrub: z
    .strictObject({
      enabled: z.boolean().default(true),
      interval: duration.default(7 * 24 * 3_600_000),
      bandwidth: byteSize.default(8 << 20),
    })
    .prefault({}),
  registry: z
    .strictObject({
      certs_dirs: z
        .array(absolutePath)
        .max(64, 'at most 64 folders')
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
          socket: socketPath.optional(),
          upstream: socketPath.default('/run/containerd/containerd.sock'),
        })
        .prefault({}),
      kubelet: z.strictObject({ config: absolutePath.optional(), bin_dir: absolutePath.optional() }).prefault({}),
      kubeconfig: z.strictObject({ path: absolutePath.optional() }).prefault({}),
    })
    .prefault({}),
});

/** As it is used: ms for times, bytes for sizes. Frozen. */
export type DaemonConfig = z.infer<typeof configSchema>;

function text(expected: string, isRight: (value: string) => boolean) {
  return z.string(expected).refine(isRight, expected);
}

function count(max: number) {
  const expected = `a whole number from 1 to ${max}`;
  return z.int(expected).min(1, expected).max(max, expected);
}
