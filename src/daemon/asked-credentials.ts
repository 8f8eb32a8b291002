import type { CredentialSource, Credentials, LookupOptions } from '../registry/auth/credentials.ts';
import { RegistryError } from '../registry/errors.ts';
import { Deferred } from '../util/deferred.ts';
import { untilAborted } from '../util/until-aborted.ts';
import type { CredentialsQuestion } from './pull-report.ts';

export interface CredentialsAnswer {
  /** Undefined means anonymous. */
  readonly user?: Credentials | undefined;
  /** Why there is no answer. */
  readonly error?: string | undefined;
}

/** The credentials that another process has stored: it is asked, and answers when it has looked. */
export class AskedCredentials implements CredentialSource {
  readonly #ask: (question: CredentialsQuestion) => void;
  readonly #waiting = new Map<number, Deferred<Credentials | undefined>>();
  #asked = 0;

  constructor(ask: (question: CredentialsQuestion) => void) {
    this.#ask = ask;
  }

  async lookup(host: string, { repository, fresh = false, signal }: LookupOptions = {}) {
    const ask = (this.#asked += 1);
    const answer = new Deferred<Credentials | undefined>();
    this.#waiting.set(ask, answer);
    try {
      this.#ask({ ask, host, repository, fresh });
      return await untilAborted(answer.promise, signal);
    } finally {
      this.#waiting.delete(ask);
    }
  }

  /** False when nobody waits for it. */
  answer(ask: number, { user, error }: CredentialsAnswer): boolean {
    const waiting = this.#waiting.get(ask);
    if (error === undefined) waiting?.resolve(user);
    else waiting?.reject(new RegistryError('CREDENTIALS_INVALID', error));
    return waiting !== undefined;
  }
}
