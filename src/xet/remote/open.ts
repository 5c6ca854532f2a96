/** Opens the store at an address. What it takes to reach it is loaded only now. */
import { HttpClient } from '../cas/http.ts';
import type { HttpSettings } from '../cas/http-settings.ts';
import { isServerAnswer, ROUTES } from '../cas/protocol.ts';
import { staticToken, type TokenSource } from '../cas/token.ts';
import type { ObjectStore } from '../objects/objects.ts';
import { STORE_FORMAT } from '../store/layout.ts';
import type { Store } from '../store/store.ts';
import type { RemoteAddress } from './address.ts';
import type { Remote } from './remote.ts';
import { StoppableObjects } from './stoppable-objects.ts';
import { StoreRemote } from './store-remote.ts';

export interface OpenOptions {
  readonly http?: HttpSettings | undefined;
  /** For the address's own authority; sent to a service only. */
  readonly token?: string | TokenSource | undefined;
  /** Whether what is sent to a directory is on stable storage before the next step; default `batch`. */
  readonly fsync?: 'batch' | 'none' | undefined;
  /** Told about trouble that does not make a call fail, one line each. */
  readonly warn?: ((message: string) => void) | undefined;
  /** Of the opening, and of all that is asked of a bucket or a web server afterwards. */
  readonly signal?: AbortSignal | undefined;
}

/** What a question about the kind of server may be answered with at most. */
const MAX_ANSWER = 4096;
/** Answers that mean: this is not what was looked for. */
const NOT_THIS = [400, 401, 403, 404, 405, 406, 410, 501];

/**
 * The caller closes it. A directory need not exist yet; a service is asked nothing, unless the address leaves
 * open what it is. Throws REMOTE_MISSING, NETWORK, AUTH_FAILED, STORE_UNSUPPORTED.
 */
export async function openStore(address: RemoteAddress, options: OpenOptions = {}): Promise<Store> {
  const { fsync = 'batch', warn, signal } = options;
  switch (address.kind) {
    case 'directory': {
      const { DirectoryStore } = await import('../store/directory-store.ts');
      return DirectoryStore.open(address.path, { fsync, ...(warn === undefined ? {} : { warn }) });
    }
    case 's3': {
      const [{ openS3 }, { StoreOverObjects }] = await Promise.all([
        import('../objects/s3.ts'),
        import('../store/object-store.ts'),
      ]);
      const objects = stoppable(await openS3(address.url, { http: options.http }), signal);
      return StoreOverObjects.open(objects, definedOnly({ signal, warn }));
    }
    default:
      return openOverHttp(address, options);
  }
}

/** As `openStore`, for those who move files. */
export async function openRemote(address: RemoteAddress, options: OpenOptions = {}): Promise<Remote> {
  return new StoreRemote(await openStore(address, options));
}

type HttpAddress = Exclude<RemoteAddress, { kind: 'directory' | 's3' }>;

async function openOverHttp({ kind, url }: HttpAddress, options: OpenOptions): Promise<Store> {
  const http = HttpClient.open(options.http);
  try {
    const token = typeof options.token === 'string' ? staticToken(url, options.token) : options.token;
    const found = kind === 'http' ? await recognise(http, url, token, options.signal) : kind;
    if (found === 'cas') {
      const { CasStore } = await import('../cas/client.ts');
      return CasStore.open({ http, casUrl: url, token, closesHttp: true });
    }
    const [{ HttpObjects }, { StoreOverObjects }] = await Promise.all([
      import('../objects/http.ts'),
      import('../store/object-store.ts'),
    ]);
    const { warn, signal } = options;
    // Whoever closes the store does not know of the client.
    class OwnObjects extends HttpObjects {
      override async [Symbol.asyncDispose](): Promise<void> {
        await http.close();
      }
    }
    const objects = stoppable(new OwnObjects(http, url), signal);
    return await StoreOverObjects.open(objects, definedOnly({ signal, warn }));
  } catch (error) {
    await http.close();
    throw error;
  }
}

/** Our own server says so; files of a store have its `format` file; everything else is taken for a service. */
async function recognise(
  http: HttpClient,
  url: string,
  token: TokenSource | undefined,
  signal: AbortSignal | undefined,
): Promise<'cas' | 'static'> {
  const ask = (path: string, source: TokenSource | undefined) =>
    http.request({ method: 'GET', url: `${url}${path}`, accept: [200, ...NOT_THIS], token: source, signal });
  const server = await ask(ROUTES.extensions(), token);
  if (server.status === 200) {
    const answer = await server.json(MAX_ANSWER).catch(() => undefined);
    if (isServerAnswer(answer)) return 'cas';
  } else {
    await server.discard();
  }
  const format = await ask('/format', undefined);
  if (format.status !== 200) {
    await format.discard();
    return 'cas';
  }
  const text = await format.bytes(MAX_ANSWER).then(String, () => '');
  return text.startsWith(STORE_FORMAT) ? 'static' : 'cas';
}

function stoppable(objects: ObjectStore, signal: AbortSignal | undefined): ObjectStore {
  return signal === undefined ? objects : new StoppableObjects(objects, signal);
}

/** For callees that take a property to be absent or defined. */
function definedOnly<T extends object>(options: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  const entries = Object.entries(options).filter(([, value]) => value !== undefined);
  return Object.fromEntries(entries) as { [K in keyof T]?: Exclude<T[K], undefined> };
}
