// Puts a front that asks for tokens before a registry: nobody gets anything without a name and a password.
import { randomBytes } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { RegistryFront } from './registry-front.ts';

/** Until the returned function is called. Tokens are given by the front itself, by GET and by POST. */
export function askForTokens(front: RegistryFront, user: string, password: string): () => void {
  const token = randomBytes(12).toString('hex');
  const basic = `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`;
  const rightForm = (form: URLSearchParams) => form.get('username') === user && form.get('password') === password;
  return front.interfere(
    () => true,
    (request, response, forward) =>
      void (async () => {
        if (request.url?.startsWith('/token') === true) {
          const right =
            request.headers.authorization === basic || rightForm(new URLSearchParams(await textOf(request)));
          const answer = right ? { token, access_token: token, expires_in: 300 } : { details: 'wrong user' };
          response.writeHead(right ? 200 : 401, { 'content-type': 'application/json' }).end(JSON.stringify(answer));
        } else if (request.headers.authorization === `Bearer ${token}`) {
          forward();
        } else {
          const name = /^\/v2\/(.+?)\/(?:blobs|manifests|referrers)\//.exec(request.url ?? '')?.[1] ?? '';
          const realm = `Bearer realm="http://${front.host}/token",service="test",scope="repository:${name}:pull"`;
          response.writeHead(401, { 'www-authenticate': realm, 'content-type': 'application/json' });
          response.end('{"errors":[{"code":"UNAUTHORIZED","message":"who are you?"}]}');
        }
      })(),
  );
}

async function textOf(request: IncomingMessage): Promise<string> {
  let text = '';
  for await (const chunk of request) text += String(chunk);
  return text;
}
