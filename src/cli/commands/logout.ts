import type { Command } from 'commander';
import { dockerConfigFile } from '../../config/docker-config-file.ts';
import { readEnvironment } from '../../config/environment.ts';
import { DockerCredentials } from '../../registry/auth/docker-config.ts';
import { example } from '../command.ts';
import type { CliContext } from '../context.ts';
import { registryHost } from '../registry-host.ts';

export function define(command: Command, context: CliContext): void {
  command.argument('[registry]', 'host[:port]', 'docker.io').action(async (typed: string) => {
    const host = registryHost(typed);
    const removed = await new DockerCredentials({ configFile: dockerConfigFile(readEnvironment()) }).erase(host, {
      signal: context.signal,
    });
    if (context.options.json) await context.output.value({ registry: host, removed });
    else await context.output.line(removed ? `removed the credentials for ${host}` : `not logged in to ${host}`);
  });
  example(command, 'peel logout ghcr.io');
}
