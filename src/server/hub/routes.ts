/** The endpoints that Hugging Face's clients need of a Hub (Xet protocol, "Hub side" and "Interop"). */
import { isObject, tokenHeaders } from '../../xet/cas/protocol.ts';
import { formatHash } from '../../xet/hash/xet-hash.ts';
import { demand } from '../access.ts';
import { issueCasToken } from '../cas-token.ts';
import type { ServerContext } from '../context.ts';
import type { Exchange } from '../exchange.ts';
import {
  CommitDraft,
  findCommit,
  findEntries,
  listTree,
  readPointers,
  type TreeEntry,
} from '../git/plumbing.ts';
import { type BareRepository, checkRepositoryName, type Repositories } from '../git/repositories.ts';
import { HttpError } from '../http-error.ts';
import type { Route } from '../router.ts';
import type { TokenScope } from '../token.ts';
import { commitByLines } from './commit.ts';
import { checkCommitPath, repositoryName } from './names.ts';
import { apiPath, locatePointers, missing, resolvePath } from './resolve.ts';

/** Files from this size on do not belong into a commit itself. */
const LFS_FROM = 10 * 1024 * 1024;
/** Binary ones from this one on. */
const LFS_BINARY_FROM = 64 * 1024;
const MAX_PATHS = 1000;
const PAGE = 1000;

export function hubRoutes(context: ServerContext, repositories: Repositories): Route[] {
  async function open(exchange: Exchange, scope: TokenScope): Promise<BareRepository> {
    const { kind = '', namespace = '', name = '', repository } = exchange.params;
    const full =
      repository === undefined ? repositoryName(kind, namespace, name) : checkRepositoryName(repository);
    demand(exchange, scope, full);
    if (scope === 'write') return repositories.getOrCreate(full);
    const found = repositories.find(full);
    if (found === undefined) throw missing('RepoNotFound', `there is no repository ${full}`);
    return found;
  }

  async function commitOf(exchange: Exchange, repository: BareRepository): Promise<string> {
    const { revision = 'HEAD' } = exchange.params;
    const commit = await findCommit(repository, revision, exchange.signal);
    if (commit === undefined) throw missing('RevisionNotFound', `there is no revision ${revision}`);
    return commit;
  }

  function token(scope: TokenScope): Route['handle'] {
    return async (exchange) => {
      const repository = await open(exchange, scope);
      const { revision = 'main' } = exchange.params;
      // Who is about to write the first commit has no revision yet.
      if (scope === 'read') await commitOf(exchange, repository);
      else if (exchange.query.get('create_pr') === '1') throw noPullRequests(revision);
      const answer = issueCasToken(context, exchange, scope, repository.name);
      exchange.json(answer, 200, { ...tokenHeaders(answer), 'Cache-Control': 'no-store' });
    };
  }

  async function preupload(exchange: Exchange): Promise<void> {
    if (exchange.query.get('create_pr') === '1') throw noPullRequests(exchange.param('revision'));
    const body = await exchange.readJson(8 * 1024 * 1024);
    const repository = await open(exchange, 'write');
    if (!isObject(body) || !Array.isArray(body.files) || body.files.length > MAX_PATHS) {
      throw new HttpError(400, `expected up to ${MAX_PATHS} files`);
    }
    const files = body.files.map((file: unknown) => {
      if (!isObject(file)) throw new HttpError(400, 'a file has a path and a size');
      const sample = typeof file.sample === 'string' ? Buffer.from(file.sample, 'base64') : Buffer.alloc(0);
      return { path: checkCommitPath(file.path), size: Number(file.size), sample };
    });
    const { signal } = exchange;
    const parent = await findCommit(repository, exchange.param('revision'), signal);
    const draft = await CommitDraft.open(repository, context.runDirectory, parent, signal);
    try {
      if (typeof body.gitAttributes === 'string')
        await draft.put('.gitattributes', Buffer.from(body.gitAttributes));
      const filters = await draft.filtersOf(files.map(({ path }) => path));
      const answers = files.map(({ path, size, sample }) => {
        const isTracked = filters.get(path) === 'lfs' || filters.get(path) === 'xet';
        const isLarge = size >= LFS_FROM || (sample.includes(0) && size >= LFS_BINARY_FROM);
        const isText = path.endsWith('.gitattributes') || path.endsWith('.gitignore');
        const uploadMode = !isText && (isTracked || isLarge) ? 'lfs' : 'regular';
        return { path, uploadMode, shouldIgnore: false };
      });
      exchange.json({ files: answers });
    } finally {
      await draft.close();
    }
  }

  async function commit(exchange: Exchange): Promise<void> {
    const revision = exchange.param('revision');
    if (exchange.query.get('create_pr') === '1') throw noPullRequests(revision);
    const repository = await open(exchange, 'write');
    const commitOid = await commitByLines(context, exchange, repository, revision);
    const commitUrl = `${exchange.base}/${repository.name}/commit/${commitOid}`;
    exchange.json({ success: true, commitOid, commitUrl, hookOutput: '' });
  }

  async function describe(exchange: Exchange, repository: BareRepository, entries: readonly TreeEntry[]) {
    const { signal } = exchange;
    const pointers = await readPointers(repository, entries, signal);
    const large = entries.filter(({ oid }) => pointers.has(oid));
    const located = await locatePointers(
      context.store,
      large.flatMap(({ oid }) => pointers.get(oid) ?? []),
      { signal },
    );
    const byPath = new Map(large.map(({ path }, i) => [path, located[i]]));
    return entries.map(({ type, oid, size, path }) => {
      if (type !== 'blob') return { type: type === 'tree' ? 'directory' : 'unknown', oid, size: 0, path };
      const found = byPath.get(path);
      if (found === undefined) return { type: 'file', oid, size, path };
      const lfs = found.sha256 && { oid: found.sha256, size: found.size, pointerSize: size };
      const xetHash = found.file && formatHash(found.file.fileHash);
      return {
        type: 'file',
        oid,
        size: found.size,
        path,
        ...(lfs ? { lfs } : {}),
        ...(xetHash ? { xetHash } : {}),
      };
    });
  }

  async function tree(exchange: Exchange): Promise<void> {
    const repository = await open(exchange, 'read');
    const found = await commitOf(exchange, repository);
    const { path = '' } = exchange.params;
    const recursive = exchange.query.get('recursive') === 'true' || exchange.query.get('recursive') === '1';
    const entries = await listTree(repository, found, path, { recursive, signal: exchange.signal });
    if (path !== '' && entries.length === 0) throw missing('EntryNotFound', `there is no folder ${path}`);
    const start = Number(exchange.query.get('cursor') ?? '0');
    if (!Number.isSafeInteger(start) || start < 0) throw new HttpError(400, 'a cursor is a number');
    const next = new URLSearchParams(exchange.query);
    next.set('cursor', String(start + PAGE));
    const url = `${exchange.base}${exchange.path}?${next}`;
    const headers = start + PAGE < entries.length ? { Link: `<${url}>; rel="next"` } : {};
    exchange.json(await describe(exchange, repository, entries.slice(start, start + PAGE)), 200, headers);
  }

  async function pathsInfo(exchange: Exchange): Promise<void> {
    const body = await exchange.readJson();
    const paths = isObject(body) && Array.isArray(body.paths) ? body.paths : undefined;
    if (paths === undefined || paths.length > MAX_PATHS)
      throw new HttpError(400, `expected up to ${MAX_PATHS} paths`);
    const repository = await open(exchange, 'read');
    const found = await commitOf(exchange, repository);
    const entries = await findEntries(repository, found, paths.map(checkCommitPath), exchange.signal);
    exchange.json(await describe(exchange, repository, entries));
  }

  async function info(exchange: Exchange): Promise<void> {
    const repository = await open(exchange, 'read');
    const { signal } = exchange;
    const { revision } = exchange.params;
    const sha =
      revision === undefined
        ? await findCommit(repository, 'HEAD', signal)
        : await commitOf(exchange, repository);
    const entries = sha === undefined ? [] : await listTree(repository, sha, '', { recursive: true, signal });
    const id = repository.name.replace(/^(?:datasets|spaces)\//, '');
    exchange.json({
      _id: Buffer.from(repository.name).toString('hex').padEnd(24, '0').slice(0, 24),
      id,
      modelId: id,
      author: id.split('/')[0],
      sha: sha ?? null,
      private: context.anonymous === 'none',
      gated: false,
      disabled: false,
      tags: [],
      downloads: 0,
      likes: 0,
      siblings: entries.filter(({ type }) => type === 'blob').map(({ path }) => ({ rfilename: path })),
    });
  }

  async function createRepo(exchange: Exchange): Promise<void> {
    const body = await exchange.readJson();
    if (!isObject(body) || typeof body.name !== 'string') throw new HttpError(400, 'expected a name');
    const kind = `${typeof body.type === 'string' ? body.type : 'model'}s`;
    const whole = typeof body.organization === 'string' ? `${body.organization}/${body.name}` : body.name;
    const [namespace = '', name = ''] = whole.split('/');
    const full = repositoryName(kind, namespace, name);
    demand(exchange, 'write', full);
    if (!repositories.mayCreate) throw new HttpError(403, 'this server does not make repositories');
    if (repositories.find(full) !== undefined)
      throw new HttpError(409, `there is a repository ${full} already`);
    const repository = await repositories.getOrCreate(full);
    exchange.json({ url: `${exchange.base}/${repository.name}`, name: full, id: apiPath(full) });
  }

  const api = '/api/{kind}/{namespace}/{name}';
  const slashes = ['revision'];
  const read = { method: 'GET', access: 'handler', slashes, answers: [200, 404] } as const;
  const write = { method: 'POST', access: 'handler', slashes, answers: [200, 400, 404, 409] } as const;
  const routes: Route[] = [
    {
      ...read,
      name: 'hub.token.read',
      pattern: `${api}/xet-read-token/{revision}`,
      summary: 'A token to read from the CAS',
      handle: token('read'),
    },
    {
      ...read,
      name: 'hub.token.write',
      pattern: `${api}/xet-write-token/{revision}`,
      summary: 'A token to write to the CAS',
      handle: token('write'),
    },
    {
      ...write,
      name: 'hub.create',
      pattern: '/api/repos/create',
      summary: 'Makes a repository, where the server was told to',
      body: 'application/json',
      handle: createRepo,
    },
    {
      ...write,
      name: 'hub.preupload',
      pattern: `${api}/preupload/{revision}`,
      summary: 'Which files of a commit are large ones',
      body: 'application/json',
      handle: preupload,
    },
    {
      ...write,
      name: 'hub.commit',
      pattern: `${api}/commit/{revision}`,
      summary: 'Makes a commit out of lines of JSON',
      body: 'application/x-ndjson',
      answers: [200, 400, 404, 409, 412],
      handle: commit,
    },
    {
      ...write,
      name: 'hub.paths',
      pattern: `${api}/paths-info/{revision}`,
      summary: 'What is at these paths',
      body: 'application/json',
      handle: pathsInfo,
    },
    {
      ...read,
      name: 'hub.tree',
      pattern: `${api}/tree/{revision}`,
      summary: 'Files at the top',
      handle: tree,
    },
    {
      ...read,
      name: 'hub.tree.path',
      pattern: `${api}/tree/{revision}/{path...}`,
      summary: 'Files in a folder',
      handle: tree,
    },
    {
      ...read,
      name: 'hub.revision',
      pattern: `${api}/revision/{revision}`,
      summary: 'What a repository is at a revision',
      handle: info,
    },
    { ...read, name: 'hub.info', pattern: api, summary: 'What a repository is', handle: info },
  ];
  for (const method of ['GET', 'HEAD'] as const) {
    routes.push({
      name: `hub.resolve.${method.toLowerCase()}`,
      method,
      pattern: '/{repository...}/resolve/{revision}/{path...}',
      access: 'handler',
      slashes,
      summary: 'A file: where its chunks are for those who ask so, else its bytes',
      answers: [200, 206, 404, 416],
      handle: async (exchange) => {
        const repository = await open(exchange, 'read');
        await resolvePath(context, exchange, repository, exchange.param('revision'), exchange.param('path'));
      },
    });
  }
  return routes;
}

function noPullRequests(revision: string): HttpError {
  return new HttpError(400, `this server has no pull requests: commit to the branch ${revision} itself`);
}
