// Programs that log in to Kubernetes (client.authentication.k8s.io ExecCredential).
import { z } from 'zod';
import { runProgram } from '../../../util/run-program.ts';
import { RegistryError } from '../../errors.ts';
import type { CallOptions } from '../../interface.ts';
import type { Kubeconfig, ExecConfig } from './kubeconfig.ts';

export interface ExecCredential {
  readonly token: string | undefined;
  readonly certificate: { readonly cert: string; readonly key: string } | undefined;
  /** ms since the epoch. */
  readonly expiresAt: number | undefined;
}

export interface ExecCredentialOptions extends CallOptions {
  readonly exec: ExecConfig;
  readonly cluster: Pick<Kubeconfig, 'server' | 'ca' | 'skipVerify' | 'serverName'>;
  readonly env: Readonly<Record<string, string>>;
  readonly timeoutMs: number;
}

const schema = z.looseObject({
  apiVersion: z.string(),
  kind: z.literal('ExecCredential'),
  status: z.looseObject({
    expirationTimestamp: z.string().nullish(),
    token: z.string().nullish(),
    clientCertificateData: z.string().nullish(),
    clientKeyData: z.string().nullish(),
  }),
});

/** Errors: CREDENTIALS_INVALID naming the program, without anything that it said: that may hold a secret. */
export async function runExecCredential(options: ExecCredentialOptions): Promise<ExecCredential> {
  const { exec, cluster, env, timeoutMs, signal } = options;
  const fail = (what: string, cause?: unknown) =>
    new RegistryError('CREDENTIALS_INVALID', `login program ${exec.command} of the kubeconfig ${what}`, { cause });
  const info = {
    kind: 'ExecCredential',
    apiVersion: exec.apiVersion,
    spec: { interactive: false, ...(exec.provideClusterInfo ? { cluster: clusterInfo(cluster) } : {}) },
  };
  const result = await runProgram({
    command: exec.command,
    args: exec.args,
    env: { ...env, ...exec.env, KUBERNETES_EXEC_INFO: JSON.stringify(info) },
    input: '',
    timeoutMs,
    signal,
    fail,
  });
  if (result === 'missing') throw fail('is not installed');
  if (result.exitCode !== 0) throw fail(`ended with status ${result.exitCode}`);
  const answer = schema.safeParse(jsonOf(result.stdout));
  if (!answer.success || answer.data.apiVersion !== exec.apiVersion) throw fail('answered with no ExecCredential');
  const { token, clientCertificateData: cert, clientKeyData: key, expirationTimestamp } = answer.data.status;
  if (!token && !(cert && key)) throw fail('answered without a token or a certificate');
  const expiresAt = expirationTimestamp ? Date.parse(expirationTimestamp) : Number.NaN;
  return {
    token: token || undefined,
    certificate: cert && key ? { cert, key } : undefined,
    expiresAt: Number.isNaN(expiresAt) ? undefined : expiresAt,
  };
}

function clusterInfo({ server, ca, skipVerify, serverName }: ExecCredentialOptions['cluster']) {
  return {
    server: server.href.replace(/\/$/, ''),
    'tls-server-name': serverName,
    'insecure-skip-tls-verify': skipVerify || undefined,
    'certificate-authority-data': ca === undefined ? undefined : Buffer.from(ca).toString('base64'),
  };
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
