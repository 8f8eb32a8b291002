// The options of every command that names a registry: who asks it, and which certificates it may show.
import path from 'node:path';
import type { Command } from 'commander';
import type { RegistryAccess } from '../daemon/registry-access.ts';
import type { Credentials } from '../registry/auth/credentials.ts';
import type { CliContext } from './context.ts';
import { UsageError } from './errors.ts';
import { parseFile } from './options.ts';

export interface TlsOptions {
  readonly caFile?: string | undefined;
  readonly insecure?: true | undefined;
}

export interface AccessOptions extends TlsOptions {
  readonly user?: string;
  readonly passwordStdin?: true;
}

export function addAccessOptions(command: Command): Command {
  command
    .option(
      '--user <name[:password]>',
      'instead of stored credentials; without a password it is asked for, with one everybody sees it in `ps`',
    )
    .option('--password-stdin', 'read the password of --user from stdin');
  return addTlsOptions(command);
}

export function addTlsOptions(command: Command): Command {
  return command
    .option('--ca-file <file>', 'PEM file of certificate authorities to trust besides those of the system', parseFile)
    .option('--insecure', 'take any certificate, and plain HTTP from a registry that speaks no TLS');
}

/** What the options say; the password is read from the terminal or from stdin where it is not among them. Errors: UsageError. */
export async function accessOf(context: CliContext, options: AccessOptions): Promise<RegistryAccess> {
  const { user, passwordStdin } = options;
  if (passwordStdin && !needsPassword(user)) throw new UsageError('--password-stdin needs a --user without a password');
  return { ...tlsOf(options), credentials: await credentialsOf(context, user, passwordStdin === true) };
}

export function tlsOf({ caFile, insecure }: TlsOptions): RegistryAccess {
  return { caFile: caFile === undefined ? undefined : path.resolve(caFile), insecure };
}

/** Whether the text of a `--user` names somebody without a password. */
export function needsPassword(user: string | undefined): boolean {
  return user !== undefined && !user.includes(':');
}

/** `user`: NAME or NAME:PASSWORD. Errors: UsageError. */
export async function credentialsOf(
  context: CliContext,
  user: string | undefined,
  fromStdin: boolean,
): Promise<Credentials | undefined> {
  if (user === undefined) return undefined;
  const colon = user.indexOf(':');
  const username = colon < 0 ? user : user.slice(0, colon);
  if (username === '') throw new UsageError('--user: expected NAME or NAME:PASSWORD');
  const password =
    colon < 0
      ? await (await import('./password.ts')).readPassword(context, `Password of ${username}: `, fromStdin)
      : user.slice(colon + 1);
  return { kind: 'password', username, password };
}

/** The options that say the same to another process, and what has to be on its stdin: nobody else sees the password. */
export function handedOn(access: RegistryAccess): { readonly flags: readonly string[]; readonly stdin: string } {
  const { credentials, caFile, insecure } = access;
  const named = credentials?.kind === 'password' ? credentials : undefined;
  return {
    flags: [
      ...(named === undefined ? [] : ['--user', named.username, '--password-stdin']),
      ...(caFile === undefined ? [] : ['--ca-file', caFile]),
      ...(insecure ? ['--insecure'] : []),
    ],
    stdin: named?.password ?? '',
  };
}
