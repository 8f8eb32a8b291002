// What a CRI PullImage request says of credentials. runtime.v1alpha2 has the same form on the wire.
import { gunzipSync } from 'node:zlib';
import { fromBinary } from '@bufbuild/protobuf';
import { hostOfKey, parseEntry } from '../../registry/auth/auth-config.ts';
import type { Credentials } from '../../registry/auth/credentials.ts';
import { parseReference } from '../../oci/reference.ts';
import { PullImageRequestSchema } from '../gen/cri/api_pb.ts';
import type { AuthConfig } from '../gen/cri/api_pb.ts';

export interface PullSecret {
  readonly image: string;
  readonly credentials: Credentials;
}

const prefixBytes = 5;

/**
 * `body`: one gRPC message with its prefix; `encoding`: that of its compression. Undefined when it brings no credentials for a registry.
 * Errors: whatever the parsers say of garbage; none holds a secret.
 */
export function pullSecretOf(body: Buffer, encoding: string | undefined, maxBytes: number): PullSecret | undefined {
  const { image, auth } = fromBinary(PullImageRequestSchema, messageOf(body, encoding, maxBytes));
  if (image === undefined || auth === undefined) return undefined;
  const reference = parseReference(image.image);
  if (reference.kind !== 'registry') return undefined;
  const { serverAddress } = auth;
  // containerd does not use credentials for another server than the image's either.
  if (serverAddress !== '' && hostOfKey(serverAddress) !== reference.host) return undefined;
  const credentials = credentialsIn(auth);
  return credentials === undefined ? undefined : { image: image.image, credentials };
}

function credentialsIn(auth: AuthConfig): Credentials | undefined {
  const { username, password, auth: encoded, identityToken, registryToken } = auth;
  const entry = { username, password, auth: encoded, identitytoken: identityToken, registrytoken: registryToken };
  return parseEntry(entry, 'auth', 'PullImage request');
}

function messageOf(body: Buffer, encoding: string | undefined, maxBytes: number): Buffer {
  if (body.byteLength < prefixBytes || body.readUInt32BE(1) !== body.byteLength - prefixBytes)
    throw new TypeError('not one gRPC message');
  const message = body.subarray(prefixBytes);
  if (body[0] === 0) return message;
  if (encoding !== 'gzip') throw new TypeError('a compression that is not known');
  return gunzipSync(message, { maxOutputLength: maxBytes });
}
