// A kubeconfig (k8s.io/client-go clientcmd/api/v1), of which the current context is used.
import { dirname, resolve } from 'node:path';
import { parse } from 'yaml';
import { z } from 'zod';
import { isLoopbackHost } from '../../client/endpoint.ts';
import { RegistryError } from '../../errors.ts';
import { readText } from '../parsed-file.ts';

export interface ExecConfig {
  readonly apiVersion: string;
  readonly command: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly provideClusterInfo: boolean;
}

/** As read, with the files that it names. */
export interface Kubeconfig {
  readonly server: URL;
  readonly ca: string | undefined;
  readonly skipVerify: boolean;
  readonly serverName: string | undefined;
  readonly certificate: { readonly cert: string; readonly key: string } | undefined;
  readonly token: string | undefined;
  readonly exec: ExecConfig | undefined;
}

const text = z.string().nullish();
const listOf = (field: string) =>
  z
    .array(z.looseObject({ name: z.string(), [field]: z.unknown().optional() }))
    .max(10_000)
    .nullish();

const documentSchema = z.looseObject({
  'current-context': z.string().min(1),
  contexts: listOf('context'),
  clusters: listOf('cluster'),
  users: listOf('user'),
});
const contextSchema = z.looseObject({ cluster: z.string(), user: text });
const clusterSchema = z.looseObject({
  server: z.string(),
  'certificate-authority': text,
  'certificate-authority-data': text,
  'insecure-skip-tls-verify': z.boolean().nullish(),
  'tls-server-name': text,
});
const execSchema = z.looseObject({
  apiVersion: z.enum(['client.authentication.k8s.io/v1', 'client.authentication.k8s.io/v1beta1']),
  command: z.string().min(1),
  args: z.array(z.string()).max(1_000).nullish(),
  env: z
    .array(z.looseObject({ name: z.string().regex(/^[^=\0]+$/), value: z.string() }))
    .max(1_000)
    .nullish(),
  provideClusterInfo: z.boolean().nullish(),
  interactiveMode: text,
});
const userSchema = z.looseObject({
  token: text,
  tokenFile: text,
  'client-certificate': text,
  'client-certificate-data': text,
  'client-key': text,
  'client-key-data': text,
  exec: execSchema.nullish(),
  'auth-provider': z.unknown().optional(),
});
type Cluster = z.infer<typeof clusterSchema>;
type User = z.infer<typeof userSchema>;

/** Errors: CREDENTIALS_INVALID naming the file and the field, never what it holds. */
export async function readKubeconfig(path: string): Promise<Kubeconfig> {
  const { cluster, user } = parseKubeconfig(await readPart(path, path, 'it'), path);
  const fail = (what: string) => invalid(path, what);
  const from = dirname(path);
  const part = async (data: string | null | undefined, file: string | null | undefined, field: string) => {
    if (data) return Buffer.from(data, 'base64').toString('utf8');
    return file ? await readPart(path, resolve(from, file), field) : undefined;
  };
  if (user['auth-provider'] !== undefined && user['auth-provider'] !== null)
    throw fail('the user has an auth-provider, which Kubernetes has removed: use exec');
  const exec = user.exec ?? undefined;
  if (exec?.interactiveMode === 'Always') throw fail('the user is logged in by a program that wants to ask a person');
  const cert = await part(user['client-certificate-data'], user['client-certificate'], 'client-certificate');
  const key = await part(user['client-key-data'], user['client-key'], 'client-key');
  if ((cert === undefined) !== (key === undefined)) throw fail('client-certificate and client-key belong together');
  const token = user.tokenFile ? await readPart(path, resolve(from, user.tokenFile), 'tokenFile') : user.token;
  return {
    server: serverOf(cluster, path),
    ca: await part(cluster['certificate-authority-data'], cluster['certificate-authority'], 'certificate-authority'),
    skipVerify: cluster['insecure-skip-tls-verify'] === true,
    serverName: cluster['tls-server-name'] || undefined,
    certificate: cert === undefined || key === undefined ? undefined : { cert, key },
    token: token?.trim() || undefined,
    exec: exec && {
      apiVersion: exec.apiVersion,
      command: exec.command.includes('/') ? resolve(from, exec.command) : exec.command,
      args: exec.args ?? [],
      env: Object.fromEntries((exec.env ?? []).map(({ name, value }) => [name, value])),
      provideClusterInfo: exec.provideClusterInfo === true,
    },
  };
}

function parseKubeconfig(content: string, path: string): { readonly cluster: Cluster; readonly user: User } {
  let document: unknown;
  try {
    document = parse(content, { maxAliasCount: 100 });
  } catch (error) {
    const [start] = (error as { readonly linePos?: readonly { readonly line: number }[] }).linePos ?? [];
    throw invalid(path, `not valid yaml at line ${start?.line ?? 1}`);
  }
  const { contexts, clusters, users, 'current-context': current } = checked(documentSchema, document, path);
  const find = (list: typeof contexts, field: string, name: string): unknown => {
    const found = list?.find((one) => one['name'] === name)?.[field];
    if (found === undefined || found === null) throw invalid(path, `there is no ${field} ${JSON.stringify(name)}`);
    return found;
  };
  const context = checked(contextSchema, find(contexts, 'context', current), path, `context ${current}`);
  const { cluster, user } = context;
  return {
    cluster: checked(clusterSchema, find(clusters, 'cluster', cluster), path, `cluster ${cluster}`),
    user: user ? checked(userSchema, find(users, 'user', user), path, `user ${user}`) : {},
  };
}

function checked<T>(schema: z.ZodType<T>, value: unknown, path: string, place = ''): T {
  const found = schema.safeParse(value);
  if (found.success) return found.data;
  const [issue] = found.error.issues;
  const where = [place, issue?.path.join('.')].filter(Boolean).join(': ') || 'the document';
  throw invalid(path, `${where}: ${issue?.message ?? 'is not valid'}`);
}

function serverOf({ server }: Cluster, path: string): URL {
  const url = URL.canParse(server) ? new URL(server) : undefined;
  if (url?.protocol === 'https:' || (url?.protocol === 'http:' && isLoopbackHost(url.host))) return url;
  throw invalid(path, 'the server is not an https URL');
}

async function readPart(kubeconfig: string, path: string, what: string): Promise<string> {
  try {
    return await readText(path, `kubeconfig ${kubeconfig}: ${what}`);
  } catch (error) {
    if (error instanceof RegistryError) throw error;
    const { code } = error as NodeJS.ErrnoException;
    throw invalid(
      kubeconfig,
      path === kubeconfig ? `cannot be read (${code})` : `${what} ${path} cannot be read (${code})`,
    );
  }
}

function invalid(path: string, what: string): RegistryError {
  return new RegistryError('CREDENTIALS_INVALID', `kubeconfig ${path}: ${what}`);
}
