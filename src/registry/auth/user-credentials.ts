import type { CredentialPlaces } from '../../config/credential-places.ts';
import { parseAuthConfig } from './auth-config.ts';
import { firstCredentials } from './credentials.ts';
import type { CredentialSource } from './credentials.ts';
import { DockerCredentials, defaultHelperTimeoutMs, lookupIn } from './docker-config.ts';
import { HelperAnswers } from './helper-answers.ts';

/** The credentials of a user, from the first of the usual places that knows the registry. Errors of lookups: CREDENTIALS_INVALID. */
export function userCredentials(places: CredentialPlaces): CredentialSource {
  const { inline = '', inlineName, files } = places;
  const helpers = new HelperAnswers({ timeoutMs: defaultHelperTimeoutMs });
  const given: CredentialSource = {
    lookup: async (host, options) =>
      await lookupIn(parseAuthConfig(inline, `variable ${inlineName}`), helpers, host, options),
  };
  return firstCredentials([given, ...files.map((configFile) => new DockerCredentials({ configFile }))]);
}
