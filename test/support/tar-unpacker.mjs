// Another unpacker than ours, made of `tar`, to test who asks for one: of small layers, one after the other, without a memory.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmodSync, chownSync, existsSync, mkdirSync, readdirSync, rmSync, utimesSync } from 'node:fs';
import path from 'node:path';
import { gunzipSync } from 'node:zlib';

/** `parts`: of src or of dist, whoever the caller is made of. */
export class TarUnpacker {
  requests = [];
  /** Comes before a layer is unpacked. */
  hold = async (_request, _signal) => {};
  #parts;
  #jobs = 0;
  #running = new Map();

  constructor(parts) {
    this.#parts = parts;
  }

  async unpackLayer(request, { signal }) {
    this.requests.push(request);
    const key = `${request.descriptor.digest} ${request.form}`;
    const known = this.#running.get(key);
    if (known !== undefined) return await known;
    const running = this.#unpack(request, signal).finally(() => this.#running.delete(key));
    this.#running.set(key, running);
    return await running;
  }

  async #unpack(request, signal) {
    const { root, table } = this.#parts;
    await this.hold(request, signal);
    signal.throwIfAborted();
    const tar = await this.#tarOf(request, signal);
    const job = (this.#jobs += 1);
    const dir = path.join(root, 'unpack', job.toString(36), 'fs');
    rmSync(dir, { recursive: true, force: true });
    mkdirSync(dir, { recursive: true });
    const implied = this.#apply(tar, dir, request.form);
    return {
      job,
      layer: request.descriptor.digest,
      dir,
      implied,
      claim: (take) => {
        if (!existsSync(dir)) throw this.#error('ERR_UNPACK_NOT_CLAIMABLE', 'somebody has taken it');
        return table.durably(() => take(dir));
      },
      release: () => {},
    };
  }

  async #tarOf({ descriptor, diffId, source }, signal) {
    const reader = await source.readAll({ signal }).catch((cause) => {
      signal.throwIfAborted();
      throw this.#error('ERR_UNPACK_FETCH', cause.message, { cause });
    });
    const chunks = [];
    for await (const chunk of reader.body) chunks.push(chunk);
    const blob = Buffer.concat(chunks);
    if (sha256(blob) !== descriptor.digest) throw this.#error('ERR_UNPACK_DIGEST', 'another digest');
    const tar = descriptor.mediaType.endsWith('gzip') ? gunzipSync(blob) : blob;
    if (sha256(tar) !== diffId) throw this.#error('ERR_UNPACK_DIFF_ID', 'another diffID');
    return tar;
  }

  #apply(tar, dir, form) {
    const entries = [...new this.#parts.TarReader().push(tar)];
    const names = new Set(entries.map(({ path: name }) => clean(name)));
    const lost = entries.find(({ type, link }) => type === 'hardlink' && !names.has(clean(link)));
    if (lost !== undefined) throw this.#error('ERR_UNPACK_BELOW', `${lost.path} is a hard link to what it does not bring`);
    const made = spawnSync('tar', ['-C', dir, '-xpf', '-', '--numeric-owner', '--xattrs'], { input: tar });
    if (made.status !== 0) throw this.#error('ERR_UNPACK_LAYER', made.stderr.toString());
    for (const name of names) if (/(^|\/)\.wh\.[^/]+$/.test(name)) this.#hide(path.join(dir, name), form);
    const described = new Set(entries.filter(({ type }) => type === 'dir').map(({ path: name }) => clean(name)));
    const implied = new Set();
    for (const name of [...names].filter((each) => each !== '')) {
      for (let at = parentOf(name); ; at = parentOf(at)) {
        if (!described.has(at)) implied.add(at);
        if (at === '') break;
      }
    }
    for (const name of implied) {
      chmodSync(path.join(dir, name), 0o755);
      chownSync(path.join(dir, name), 0, 0);
      utimesSync(path.join(dir, name), 0, 0);
    }
    return [...implied].sort((a, b) => (a < b ? -1 : 1));
  }

  #hide(file, form) {
    rmSync(file);
    const name = path.basename(file).slice('.wh.'.length);
    if (form === 'plain') return;
    if (name !== '.wh..opq') spawnSync('mknod', [path.join(path.dirname(file), name), 'c', '0', '0']);
    else this.#parts.setXattr(path.dirname(file), 'trusted.overlay.opaque', Buffer.from('y'));
  }

  #error(code, message, options) {
    return Object.assign(new Error(message, options), { code });
  }

  /** Folders of jobs that have a tree still. */
  left() {
    const dir = path.join(this.#parts.root, 'unpack');
    return existsSync(dir) ? readdirSync(dir).filter((job) => existsSync(path.join(dir, job, 'fs'))) : [];
  }

  status() {
    const idle = { limit: 1, perImage: 1, held: 0, waiting: 0 };
    return { downloads: idle, unpacks: idle, jobs: [] };
  }

  async unpackImage() {
    throw this.#error('ERR_UNPACK_UNSUPPORTED', 'single layers only');
  }

  setLimits() {}

  async idle() {}

  async collect() {}

  async idle() {}

  async close() {}
}

const sha256 = (bytes) => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
const clean = (name) => name.split('/').filter((part) => part !== '' && part !== '.').join('/');
const parentOf = (name) => name.slice(0, Math.max(name.lastIndexOf('/'), 0));
