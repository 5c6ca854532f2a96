/** Git over smart HTTP, and how a repository says that its large files are on this server. */
import { formatXetInfo, tokenHeaders } from '../../xet/cas/protocol.ts';
import { demand } from '../access.ts';
import { issueCasToken } from '../cas-token.ts';
import type { ServerContext } from '../context.ts';
import type { Exchange } from '../exchange.ts';
import { HttpError } from '../http-error.ts';
import type { Route } from '../router.ts';
import type { TokenScope } from '../token.ts';
import { runBackend } from './http-backend.ts';
import { type BareRepository, checkRepositoryName, type Repositories } from './repositories.ts';

const SERVICES = ['git-upload-pack', 'git-receive-pack'] as const;

export function gitRoutes(context: ServerContext, repositories: Repositories): Route[] {
  async function open(exchange: Exchange, scope: TokenScope): Promise<BareRepository> {
    const name = checkRepositoryName(exchange.param('repository'));
    demand(exchange, scope, name);
    return scope === 'write' ? repositories.getOrCreate(name) : repositories.get(name);
  }

  async function infoRefs(exchange: Exchange): Promise<void> {
    const service = exchange.query.get('service');
    const known = SERVICES.find((each) => each === service);
    if (known === undefined) throw new HttpError(403, 'only the smart protocol of git is spoken here');
    const mayWrite = known === 'git-receive-pack';
    const repository = await open(exchange, mayWrite ? 'write' : 'read');
    await backend(exchange, repository, '/info/refs', `service=${known}`, mayWrite);
  }

  function backend(
    exchange: Exchange,
    repository: BareRepository,
    service: string,
    query: string,
    mayWrite: boolean,
  ): Promise<void> {
    const { hook } = repositories;
    const limit = context.limits.maxObject;
    return runBackend(exchange, { repository, service, query, mayWrite, hook, limit });
  }

  async function info(exchange: Exchange): Promise<void> {
    const name = checkRepositoryName(exchange.param('repository'));
    if (repositories.find(name) === undefined && !repositories.mayCreate) repositories.get(name);
    const gitUrl = exchange.base + exchange.path.slice(0, -'/info/xet'.length);
    exchange.json(formatXetInfo({ casUrl: exchange.base, tokenUrl: `${gitUrl}/info/xet/token` }));
  }

  async function token(exchange: Exchange): Promise<void> {
    const scope = exchange.query.get('scope') ?? 'read';
    if (scope !== 'read' && scope !== 'write') throw new HttpError(400, 'scope is read or write');
    const repository = await open(exchange, scope);
    const answer = issueCasToken(context, exchange, scope, repository.name);
    exchange.json(answer, 200, { ...tokenHeaders(answer), 'Cache-Control': 'no-store' });
  }

  const pack = 'application/x-git-receive-pack-request';
  return [
    {
      name: 'git.xet',
      method: 'GET',
      pattern: '/{repository...}/info/xet',
      access: 'open',
      summary: 'Where the large files of a repository are',
      answers: [200, 404],
      handle: info,
    },
    {
      name: 'git.xet.token',
      method: 'GET',
      pattern: '/{repository...}/info/xet/token',
      access: 'handler',
      summary: 'A token for the CAS; scope=read or write',
      answers: [200, 404],
      handle: token,
    },
    {
      name: 'git.refs',
      method: 'GET',
      pattern: '/{repository...}/info/refs',
      access: 'handler',
      summary: 'Refs of a repository, for git; service=git-upload-pack or git-receive-pack',
      answers: [200, 404],
      handle: infoRefs,
    },
    {
      name: 'git.fetch',
      method: 'POST',
      pattern: '/{repository...}/git-upload-pack',
      access: 'handler',
      summary: 'What git clone and git fetch ask',
      body: 'application/x-git-upload-pack-request',
      answers: [200, 404],
      handle: async (exchange) =>
        backend(exchange, await open(exchange, 'read'), '/git-upload-pack', '', false),
    },
    {
      name: 'git.push',
      method: 'POST',
      pattern: '/{repository...}/git-receive-pack',
      access: 'handler',
      summary: 'What git push sends',
      body: pack,
      answers: [200, 404],
      handle: async (exchange) =>
        backend(exchange, await open(exchange, 'write'), '/git-receive-pack', '', true),
    },
  ];
}
