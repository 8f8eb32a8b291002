// Certificates made by openssl for one test: an authority of its own, and what that signs.
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';

export interface Certificate {
  readonly certFile: string;
  readonly keyFile: string;
  /** As a server takes them. */
  readonly pems: { readonly cert: string; readonly key: string };
}

export class TestAuthority {
  readonly caFile: string;
  readonly #dir: string;
  readonly #keyFile: string;

  /** Files are made in `dir`, named after `name`. */
  constructor(dir: string, name = 'ca') {
    this.#dir = dir;
    this.caFile = path.join(dir, `${name}.pem`);
    this.#keyFile = path.join(dir, `${name}.key`);
    openssl('req', '-x509', ...newKey(this.#keyFile), '-out', this.caFile, '-days', '2', '-subj', `/CN=test ${name}`);
  }

  /** `names` as in subjectAltName: `IP:127.0.0.1,DNS:localhost`. `days` below 0: expired. */
  issue(name: string, names = 'IP:127.0.0.1,DNS:localhost', days = 2): Certificate {
    const file = (ending: string) => path.join(this.#dir, `${name}.${ending}`);
    writeFileSync(file('ext'), `subjectAltName=${names}\nextendedKeyUsage=serverAuth,clientAuth\n`);
    openssl('req', ...newKey(file('key')), '-out', file('csr'), '-subj', `/CN=${name}`);
    const authority = ['-CA', this.caFile, '-CAkey', this.#keyFile, '-CAcreateserial', '-extfile', file('ext')];
    openssl('x509', '-req', '-in', file('csr'), '-out', file('cert'), '-days', String(days), ...authority);
    return certificate(file('cert'), file('key'));
  }

  /** One that no authority signed. */
  selfSigned(name: string): Certificate {
    const [certFile, keyFile] = [path.join(this.#dir, `${name}.cert`), path.join(this.#dir, `${name}.key`)];
    const subject = ['-subj', `/CN=${name}`, '-addext', 'subjectAltName=IP:127.0.0.1'];
    openssl('req', '-x509', ...newKey(keyFile), '-out', certFile, '-days', '2', ...subject);
    return certificate(certFile, keyFile);
  }
}

function certificate(certFile: string, keyFile: string): Certificate {
  const pems = { cert: readFileSync(certFile, 'utf8'), key: readFileSync(keyFile, 'utf8') };
  return { certFile, keyFile, pems };
}

function newKey(file: string): string[] {
  return ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', file];
}

function openssl(...args: readonly string[]): void {
  execFileSync('openssl', args, { stdio: ['ignore', 'ignore', 'pipe'] });
}
