import type { Command } from 'commander';
import { dockerConfigFile } from '../../config/docker-config-file.ts';
import { readEnvironment } from '../../config/environment.ts';
import { connectRegistry } from '../../daemon/connect-registry.ts';
import { DockerCredentials } from '../../registry/auth/docker-config.ts';
import { addTlsOptions, type TlsOptions, tlsOf } from '../access-options.ts';
import { example } from '../command.ts';
import type { CliContext } from '../context.ts';
import { UsageError } from '../errors.ts';
import { readPassword } from '../password.ts';
import { registryHost } from '../registry-host.ts';

interface LoginOptions extends TlsOptions {
  readonly username: string;
  readonly passwordStdin?: true;
}

export function define(command: Command, context: CliContext): void {
  addTlsOptions(command)
    .argument('[registry]', 'host[:port]', 'docker.io')
    .requiredOption('-u, --username <name>', 'user name, or what the registry wants with a token')
    .option('--password-stdin', 'read the password or token from stdin instead of asking')
    .action(async (typed: string, { username, passwordStdin, ...tls }: LoginOptions) => {
      const host = registryHost(typed);
      if (username.includes(':')) throw new UsageError('--username: a user name has no colon');
      const password = await readPassword(context, `Password for ${host}: `, passwordStdin === true);
      // Credentials that do not work are not kept.
      const connected = await connectRegistry(host, {
        environment: readEnvironment(),
        access: { ...tlsOf(tls), credentials: { kind: 'password', username, password } },
        onWarning: context.warn,
      });
      try {
        await connected.origin.ping({ signal: context.signal });
      } finally {
        await connected.close();
      }
      const configFile = dockerConfigFile(readEnvironment());
      const storedIn = await new DockerCredentials({ configFile }).store(host, username, password, {
        signal: context.signal,
      });
      if (context.options.json) await context.output.value({ registry: host, username, storedIn });
      else await context.output.line(`logged in to ${host}; credentials are in ${storedIn}`);
    });
  example(command, 'echo "$TOKEN" | peel login ghcr.io -u me --password-stdin');
}
