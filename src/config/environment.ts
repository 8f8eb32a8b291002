// The only reader of the process environment.

/** What the environment says, with empty values taken as unset. */
export interface Environment {
  readonly peelRoot: string | undefined;
  readonly peelRunDir: string | undefined;
  readonly peelLogLevel: string | undefined;
  readonly dockerConfigDir: string | undefined;
  readonly dockerAuthConfig: string | undefined;
  readonly registryAuthFile: string | undefined;
  readonly home: string | undefined;
  readonly xdgCacheHome: string | undefined;
  readonly xdgConfigHome: string | undefined;
  readonly xdgRuntimeDir: string | undefined;
  readonly noColor: boolean;
}

export function readEnvironment(variables: NodeJS.ProcessEnv = process.env): Environment {
  const value = (name: string) => variables[name] || undefined;
  return Object.freeze({
    peelRoot: value('PEEL_ROOT'),
    peelRunDir: value('PEEL_RUN_DIR'),
    peelLogLevel: value('PEEL_LOG_LEVEL'),
    dockerConfigDir: value('DOCKER_CONFIG'),
    dockerAuthConfig: value('DOCKER_AUTH_CONFIG'),
    registryAuthFile: value('REGISTRY_AUTH_FILE'),
    home: value('HOME'),
    xdgCacheHome: value('XDG_CACHE_HOME'),
    xdgConfigHome: value('XDG_CONFIG_HOME'),
    xdgRuntimeDir: value('XDG_RUNTIME_DIR'),
    noColor: value('NO_COLOR') !== undefined,
  });
}
