// Tags and repositories (distribution spec, "Listing Tags"), page by page.
import { Scope } from '../auth/scope.ts';
import { RegistryError } from '../errors.ts';
import type { ListOptions } from '../interface.ts';
import { nextPage } from './link.ts';
import type { ClientRequest, RegistryClient } from './registry-client.ts';

/** Some registries refuse more. */
const pageSize = 1_000;
const maxPages = 10_000;
const maxPageBytes = 16 * 1024 * 1024;
/** All pages together: half a million names of 128 bytes. */
const maxListBytes = 64 * 1024 * 1024;

export class ListCalls {
  readonly #client: RegistryClient;

  constructor(client: RegistryClient) {
    this.#client = client;
  }

  tags(repository: string, options: ListOptions = {}): AsyncGenerator<string> {
    const path = `/v2/${repository}/tags/list`;
    return this.#list(
      path,
      'tags',
      { what: `tags of ${repository}`, subject: 'repository', scope: Scope.repository(repository, 'pull') },
      options,
    );
  }

  repositories(options: ListOptions = {}): AsyncGenerator<string> {
    const scope = Scope.parse('registry:catalog:*');
    return this.#list(
      '/v2/_catalog',
      'repositories',
      { what: 'list of repositories', subject: 'other', scope },
      options,
    );
  }

  /** All pages are read before the first item is given, because some registries send their tags unsorted. */
  async *#list(
    path: string,
    field: string,
    request: Pick<ClientRequest, 'what' | 'subject' | 'scope'>,
    options: ListOptions,
  ): AsyncGenerator<string> {
    const { startAfter, signal } = options;
    const found = new Set<string>();
    let url: URL | undefined = this.#client.url(path, { n: String(pageSize), last: startAfter });
    let size = 0;
    const visited = new Set<string>();
    // An empty page may have one after it; a page that was there before has nothing new to say.
    for (let pages = 0; url !== undefined && !visited.has(url.href); pages += 1) {
      visited.add(url.href);
      if (pages === maxPages || size > maxListBytes)
        throw new RegistryError(
          'TOO_LARGE',
          `${request.what} at ${this.#client.options.host}: no end after ${pages} pages of ${size} bytes`,
        );
      const call: ClientRequest = {
        ...request,
        method: 'GET',
        url,
        headers: { accept: 'application/json' },
        accept: [200],
        signal,
      };
      const { response, bytes } = await this.#client.sendAndCollect(call, maxPageBytes);
      size += bytes.byteLength;
      const items = parseNames(bytes, field, `${request.what} at ${this.#client.options.host}`);
      const before = found.size;
      for (const item of items) found.add(item);
      // Without a link there may be more when a page is full, but only as long as something new comes.
      const mayGoOn = items.length === pageSize && found.size > before;
      const guess = mayGoOn ? this.#client.url(path, { n: String(pageSize), last: items.at(-1) }) : undefined;
      url = nextPage(response) ?? guess;
    }
    const after = startAfter ?? '';
    yield* [...found].filter((item) => startAfter === undefined || item > after).sort();
  }
}

function parseNames(bytes: Buffer, field: string, what: string): string[] {
  let list: unknown;
  try {
    list = (JSON.parse(bytes.toString('utf8')) as Record<string, unknown> | null)?.[field];
  } catch (error) {
    throw new RegistryError('RESPONSE_INVALID', `${what}: the answer is not valid json`, { cause: error });
  }
  // Docker's registry says null for an empty list.
  if (list === null || list === undefined) return [];
  if (!Array.isArray(list) || !list.every((item) => typeof item === 'string')) {
    throw new RegistryError('RESPONSE_INVALID', `${what}: ${field} is not a list of names`);
  }
  return list;
}
