// What the codes of sockets, of TLS and of the HTTP client mean, in words for people.

const words: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'connection refused',
  ECONNRESET: 'connection reset',
  ENOTFOUND: 'no such host',
  EAI_AGAIN: 'the name of the host cannot be resolved',
  EHOSTUNREACH: 'no route to the host',
  ENETUNREACH: 'no network',
  UND_ERR_SOCKET: 'the connection was closed',
  ERR_HTTP2_STREAM_ERROR: 'the stream was reset',
  ERR_HTTP2_STREAM_CANCEL: 'the stream was cancelled',
};

/** The other side answered the TLS handshake with something else. */
const noTlsCodes: ReadonlySet<string> = new Set([
  'EPROTO',
  'ERR_SSL_WRONG_VERSION_NUMBER',
  'ERR_SSL_PACKET_LENGTH_TOO_LONG',
  'ERR_SSL_HTTP_REQUEST',
  'ERR_SSL_UNKNOWN_PROTOCOL',
]);

const remedy = 'trust it with --ca-file or hosts.toml';

/** Codes of X509_verify_cert(3), Node.js's own, and alerts by which the server refuses our certificate or the lack of one. */
const certificateWords: Readonly<Record<string, string>> = {
  CERT_HAS_EXPIRED: 'its certificate has expired',
  CERT_NOT_YET_VALID: 'its certificate is not valid yet',
  DEPTH_ZERO_SELF_SIGNED_CERT: `its certificate is self-signed: ${remedy}`,
  SELF_SIGNED_CERT_IN_CHAIN: `its certificate comes from a self-signed authority that is not trusted: ${remedy}`,
  UNABLE_TO_GET_ISSUER_CERT: `its certificate comes from an unknown authority: ${remedy}`,
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: `its certificate comes from an unknown authority: ${remedy}`,
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: `its certificate comes from an unknown authority: ${remedy}`,
  CERT_UNTRUSTED: `its certificate is not trusted: ${remedy}`,
  CERT_REJECTED: 'its certificate is not for servers',
  INVALID_PURPOSE: 'its certificate is not for servers',
  INVALID_CA: 'its certificate comes from what is no certificate authority',
  PATH_LENGTH_EXCEEDED: 'its certificate comes from what may not sign it',
  CERT_CHAIN_TOO_LONG: 'its chain of certificates is too long',
  CERT_SIGNATURE_FAILURE: 'the signature of its certificate is wrong',
  CERT_REVOKED: 'its certificate has been revoked',
  HOSTNAME_MISMATCH: 'its certificate is for another host',
  ERR_TLS_CERT_ALTNAME_INVALID: 'its certificate is for another host',
  ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED: 'it asks for a client certificate',
  ERR_SSL_SSLV3_ALERT_HANDSHAKE_FAILURE: 'it refuses the handshake, perhaps for want of a client certificate',
  ERR_SSL_SSLV3_ALERT_BAD_CERTIFICATE: 'it asks for a client certificate, or does not take ours',
  ERR_SSL_SSLV3_ALERT_CERTIFICATE_UNKNOWN: 'it does not take our client certificate',
  ERR_SSL_SSLV3_ALERT_CERTIFICATE_EXPIRED: 'our client certificate has expired',
  ERR_SSL_TLSV1_ALERT_UNKNOWN_CA: 'it does not know the authority of our client certificate',
};

/** Words for a failed check of a certificate; undefined for other codes. */
export function certificateProblem(code: unknown): string | undefined {
  return typeof code === 'string' && Object.hasOwn(certificateWords, code) ? certificateWords[code] : undefined;
}

/** Whether the failure of a TLS connection means that there is no TLS. */
export function meansNoTls(code: unknown): boolean {
  return typeof code === 'string' && noTlsCodes.has(code);
}

export function wordsFor(code: string): string {
  const known = meansNoTls(code) ? 'no TLS spoken there' : words[code];
  return known === undefined ? code : `${known} (${code})`;
}

/**
 * With TLS 1.3 a server learns only after the handshake that a client certificate is missing, and the HTTP client notices the end of
 * the connection before the alert that says so.
 */
export function closedWithoutAnswer(error: unknown): boolean {
  const { code, socket } = error as {
    readonly code?: unknown;
    readonly socket?: { readonly bytesRead?: number } | null;
  };
  return code === 'UND_ERR_SOCKET' && socket?.bytesRead === 0;
}
