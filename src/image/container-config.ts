import { asObject, optionalObject, optionalString, optionalStringMap, optionalStrings } from '../oci/json.ts';
import type { JsonObject } from '../oci/json.ts';

/** What an image config says of the containers of its image (OCI image spec, config.md); empty where it says nothing. */
export interface ContainerConfig {
  readonly os: string | undefined;
  readonly architecture: string | undefined;
  readonly author: string | undefined;
  readonly created: string | undefined;
  /** `USER[:GROUP]`, each a name or a number. */
  readonly user: string;
  /** `NAME=VALUE` */
  readonly env: readonly string[];
  /** The program and its arguments. */
  readonly args: readonly string[];
  readonly workingDir: string;
  readonly volumes: readonly string[];
  readonly exposedPorts: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
  readonly stopSignal: string | undefined;
}

/** Errors: ERR_OCI_MANIFEST naming the field of the image `what` that has another type than it should. */
export function containerConfig(config: JsonObject, what: string): ContainerConfig {
  const name = `the config of ${what}`;
  const inner = optionalObject(config, 'config', name) ?? asObject({}, name);
  const list = (field: string): string[] => optionalStrings(inner, field, name) ?? [];
  const set = (field: string): string[] => Object.keys(optionalObject(inner, field, name) ?? {}).toSorted();
  return {
    os: optionalString(config, 'os', name),
    architecture: optionalString(config, 'architecture', name),
    author: optionalString(config, 'author', name),
    created: optionalString(config, 'created', name),
    user: optionalString(inner, 'User', name) ?? '',
    env: list('Env'),
    args: [...list('Entrypoint'), ...list('Cmd')],
    workingDir: optionalString(inner, 'WorkingDir', name) ?? '/',
    volumes: set('Volumes'),
    exposedPorts: set('ExposedPorts'),
    labels: optionalStringMap(inner, 'Labels', name) ?? {},
    stopSignal: optionalString(inner, 'StopSignal', name),
  };
}
