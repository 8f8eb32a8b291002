// Whom the daemon is known as at registries. containerd does not share the credentials of a pull with its snapshotters, and layers are
// read long after it: each place that credentials can be had from is asked, in an order, and asked again when they expire.
import { join } from 'node:path';
import { credentialPlaces } from '../config/credential-places.ts';
import type { Environment } from '../config/environment.ts';
import { programEnvironment } from '../config/program-environment.ts';
import type { DaemonConfig } from '../config/schema.ts';
import type { Logger } from '../observe/log.ts';
import { parseReference } from '../oci/reference.ts';
import type { CredentialSource, Credentials } from '../registry/auth/credentials.ts';
import { userCredentials } from '../registry/auth/user-credentials.ts';
import { RegistryError } from '../registry/errors.ts';
import type { SecretTable } from '../state/secrets.ts';
import type { UnixAddress } from '../util/listen-unix.ts';
import { daemonSource } from './credential-order.ts';
import type { NamedSource } from './credential-order.ts';
import { RememberedSecrets } from './remembered-secrets.ts';
import { readSecretKey } from './secret-key.ts';

export interface CredentialDeps {
  readonly environment: Environment;
  readonly uid: number;
  readonly secrets: SecretTable;
  /** The state directory, in which the key must not lie. */
  readonly root: string;
  readonly runDir: string;
  readonly log: Logger;
  readonly now?: (() => number) | undefined;
}

export interface DaemonCredentials {
  /** For `connectRegistry` and `Origins`. Its lookups fail only by their signal. */
  readonly source: CredentialSource;
  /** Used from now on for the repository of `image`. Errors: OciError for what is no reference; CREDENTIALS_INVALID for one on disk. */
  remember(image: string, credentials: Credentials): Promise<void>;
  /**
   * Listens as a kubelet's image endpoint, by default on `credentials.cri.socket` or `<run_dir>/image.sock`, until `close`; there when
   * `credentials.cri.enabled`. To be called once snapshots are served: containerd is handed pulls from then on. Errors: as `listenUnix`.
   */
  readonly serveCri?: (address?: UnixAddress) => Promise<void>;
  /** Reads all files again and asks all programs again. Never fails: what is wrong is logged when it is needed. */
  reload(): void;
  /** Ends watches and the image endpoint, and wipes the key. Idempotent. */
  close(): Promise<void>;
}

interface Place extends NamedSource {
  readonly reload?: () => void;
  readonly close?: () => Promise<void>;
}

/** Errors: ERR_CONFIG_KEY for a key that cannot be used. What else is wrong, or not there yet, is logged when it is needed. */
export async function openCredentials(
  config: DaemonConfig['credentials'],
  deps: CredentialDeps,
): Promise<DaemonCredentials> {
  const { environment, secrets: table, root, log, now } = deps;
  const { key_file: keyFile } = config;
  const { credentialsDirectory } = environment;
  const key = await readSecretKey({ keyFile, credentialsDirectory, root });
  if (key === undefined && config.cri.enabled)
    log.info({}, 'pull secrets are forgotten at a restart: there is no key to keep them with (credentials.key_file)');
  const remembered = new RememberedSecrets({ table, key, log, now });
  const places = await openPlaces(config, deps);
  const closers: (() => Promise<void>)[] = [];
  const remember = async (image: string, credentials: Credentials): Promise<void> => {
    const reference = parseReference(image);
    if (reference.kind !== 'registry')
      throw new RegistryError('CREDENTIALS_INVALID', `${image} is on disk and needs no credentials`);
    remembered.remember(reference.host, reference.repository, credentials);
  };
  const serveCri = async (address?: UnixAddress): Promise<void> => {
    const { serveCriProxy } = await import('../snapshotter/cri/cri-proxy.ts');
    const path = config.cri.socket ?? join(deps.runDir, 'image.sock');
    const { upstream } = config.cri;
    const proxy = await serveCriProxy({ address: address ?? { path }, upstream, remember, log });
    closers.push(() => proxy.close());
  };
  let closing: Promise<void> | undefined;
  const close = async (): Promise<void> => {
    for (const end of closers.splice(0).reverse()) await end();
    for (const place of places) await place.close?.();
    remembered.close();
  };
  return {
    source: daemonSource(remembered, places, log),
    remember,
    ...(config.cri.enabled ? { serveCri } : {}),
    reload: () => {
      for (const place of places) place.reload?.();
    },
    close: () => (closing ??= close()),
  };
}

/** In the order in which they are asked. What is not configured costs nothing. */
async function openPlaces(config: DaemonConfig['credentials'], deps: CredentialDeps): Promise<readonly Place[]> {
  const { environment, uid, log, now } = deps;
  const env = programEnvironment(environment);
  const places: Place[] = [];
  const { config: configFile, bin_dir: binDir } = config.kubelet;
  if (configFile !== undefined && binDir !== undefined) {
    const { KubeletProviders } = await import('../registry/auth/kubelet/kubelet-providers.ts');
    const source = new KubeletProviders({ configFile, binDir, env, log, now });
    places.push({ name: 'kubelet', source, reload: () => source.reset() });
  } else if (configFile !== undefined || binDir !== undefined) {
    const missing = configFile === undefined ? 'config' : 'bin_dir';
    log.error({}, `credentials.kubelet.${missing} is missing: kubelet credential providers are not asked`);
  }
  const { path: kubeconfig } = config.kubeconfig;
  if (kubeconfig !== undefined) {
    const { KubePullSecrets } = await import('../registry/auth/kube/kube-pull-secrets.ts');
    const source = new KubePullSecrets({ kubeconfig, env, log, now });
    places.push({ name: 'kubeconfig', source, reload: () => source.restart(), close: () => source.close() });
  }
  if (config.docker) {
    const open = () => userCredentials(credentialPlaces(environment, uid));
    let source = open();
    places.push({
      name: 'docker',
      source: { lookup: (host, options) => source.lookup(host, options) },
      reload: () => (source = open()),
    });
  }
  return places;
}
