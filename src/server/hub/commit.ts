/**
 * Commits by the Hub's API (its clients' `commit`): lines of JSON, made into a commit of the bare repository by
 * git's plumbing. Large files are LFS pointers, whose content must be in the store before.
 */
import { addLine } from '../../git/attributes-file.ts';
import { isObject, type JsonObject } from '../../xet/cas/protocol.ts';
import { formatLfsPointer } from '../../xet/pointer/lfs-pointer.ts';
import { Spool } from '../cas/spool.ts';
import { findContents } from '../content.ts';
import type { ServerContext } from '../context.ts';
import type { Exchange } from '../exchange.ts';
import { CommitDraft, checkRevision, findCommit, moveBranch } from '../git/plumbing.ts';
import type { BareRepository } from '../git/repositories.ts';
import { HttpError } from '../http-error.ts';
import { checkCommitPath } from './names.ts';

/** A line holds a whole file that is no large one, in base64. */
const MAX_LINE = 24 * 1024 * 1024;
const ATTRIBUTES = ['filter=lfs', 'diff=lfs', 'merge=lfs', '-text'];
/** Somebody else may move the branch meanwhile. */
const MAX_ATTEMPTS = 5;
const NEWLINE = 0x0a;

interface LfsFile {
  readonly path: string;
  readonly sha256: string;
  readonly size: number;
}

/** Reads the body of the request; answers with the new commit. */
export async function commitByLines(
  context: ServerContext,
  exchange: Exchange,
  repository: BareRepository,
  revision: string,
): Promise<string> {
  const branch = branchOf(revision);
  const spool = new Spool(context.runDirectory);
  try {
    for await (const piece of exchange.body(context.limits.maxUpload)) await spool.write(piece);
    return await context.largeSlots.run(exchange.signal, async () => {
      for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
        const oid = await tryCommit(context, exchange, repository, branch, spool);
        if (oid !== undefined) return oid;
      }
      throw new HttpError(409, `the branch ${branch} is moved by others all the time: try again`);
    });
  } finally {
    await spool.close();
  }
}

function branchOf(revision: string): string {
  const branch = checkRevision(
    revision.startsWith('refs/heads/') ? revision.slice('refs/heads/'.length) : revision,
  );
  const isBranch = !/^(?:HEAD$|refs\/|[0-9a-f]{40}$|[0-9a-f]{64}$)/.test(branch);
  if (!isBranch) throw new HttpError(400, `a commit goes to a branch; '${revision}' is none`);
  return branch;
}

/** Undefined: the branch was moved meanwhile. */
async function tryCommit(
  context: ServerContext,
  exchange: Exchange,
  repository: BareRepository,
  branch: string,
  spool: Spool,
): Promise<string | undefined> {
  const { signal } = exchange;
  const parent = await findCommit(repository, `refs/heads/${branch}`, signal);
  const draft = await CommitDraft.open(repository, context.runDirectory, parent, signal);
  try {
    let header: JsonObject | undefined;
    const large: LfsFile[] = [];
    for await (const line of lines(spool)) {
      const { key, value } = parseLine(line);
      if (key === 'header') {
        header = value;
        const { parentCommit } = value;
        if (parentCommit !== undefined && parentCommit !== parent) {
          throw new HttpError(
            412,
            `the branch ${branch} is not at ${String(parentCommit).slice(0, 64)} any more`,
          );
        }
      } else if (key === 'file') {
        const { path, content } = fileOf(value);
        await draft.put(path, content);
      } else if (key === 'lfsFile') {
        const file = lfsFileOf(value);
        large.push(file);
        await draft.put(file.path, formatLfsPointer(file.sha256, file.size));
      } else if (key === 'deletedFile' || key === 'deletedFolder' || key === 'deletedEntry') {
        const path = checkCommitPath(value.path);
        if (!(await draft.delete(path, key === 'deletedFolder'))) {
          throw new HttpError(400, `there is no ${path} to delete`);
        }
      } else {
        throw new HttpError(400, `'${String(key).slice(0, 40)}' is nothing that a commit can do here`);
      }
    }
    const summary = header?.summary;
    if (typeof summary !== 'string' || summary.trim() === '') {
      throw new HttpError(400, 'a commit begins with a header that has a summary');
    }
    await checkContents(context, large, signal);
    await trackLarge(draft, large);
    const description = typeof header?.description === 'string' ? `\n\n${header.description}` : '';
    const { name } = exchange.identity;
    const oid = await draft.commit(`${summary}${description}\n`, parent, name);
    return (await moveBranch(repository, branch, oid, parent, signal)) ? oid : undefined;
  } finally {
    await draft.close();
  }
}

/** What is committed must be here: whoever clones gets it from here. */
async function checkContents(
  context: ServerContext,
  files: readonly LfsFile[],
  signal: AbortSignal,
): Promise<void> {
  const sha256s = files.map(({ sha256 }) => sha256);
  const found = await findContents(context.store, sha256s, { signal });
  for (const { path, sha256, size } of files) {
    if (found.get(sha256)?.size === size) continue;
    throw new HttpError(
      400,
      `${path}: its content, ${size} bytes with the SHA-256 ${sha256}, was not uploaded`,
      {},
      'CONTENT_MISSING',
    );
  }
}

/** As the Hub does: a large file has the filter, so that git gives its content back. */
async function trackLarge(draft: CommitDraft, files: readonly LfsFile[]): Promise<void> {
  if (files.length === 0) return;
  const filters = await draft.filtersOf(files.map(({ path }) => path));
  let text: Buffer = (await draft.read('.gitattributes')) ?? Buffer.alloc(0);
  let isChanged = false;
  for (const { path } of files) {
    if (filters.get(path) === 'lfs' || filters.get(path) === 'xet') continue;
    const literal = path.replace(/[\\*?[]/g, '\\$&');
    const edit = addLine(text, literal.includes('/') ? literal : `/${literal}`, ATTRIBUTES);
    ({ text } = edit);
    isChanged ||= edit.changed;
  }
  if (isChanged) await draft.put('.gitattributes', text);
}

function fileOf(value: JsonObject): { readonly path: string; readonly content: Buffer } {
  const { path, content, encoding = 'utf-8' } = value;
  if (typeof content !== 'string' || (encoding !== 'base64' && encoding !== 'utf-8')) {
    throw new HttpError(400, 'a file has its content, in the encoding base64 or utf-8');
  }
  return {
    path: checkCommitPath(path),
    content: Buffer.from(content, encoding === 'base64' ? 'base64' : 'utf8'),
  };
}

function lfsFileOf(value: JsonObject): LfsFile {
  const { path, oid, size, algo = 'sha256' } = value;
  const isSha256 = algo === 'sha256' && typeof oid === 'string' && /^[0-9a-f]{64}$/.test(oid);
  if (!isSha256 || !Number.isSafeInteger(size) || Number(size) < 0) {
    throw new HttpError(400, 'a large file has a SHA-256 as its oid, and a size');
  }
  return { path: checkCommitPath(path), sha256: oid, size: Number(size) };
}

function parseLine(line: Buffer): { readonly key: unknown; readonly value: JsonObject } {
  let parsed: unknown;
  try {
    parsed = JSON.parse(line.toString('utf8'));
  } catch {
    throw new HttpError(400, 'a line of the commit is not JSON');
  }
  if (isObject(parsed) && isObject(parsed.value)) return { key: parsed.key, value: parsed.value };
  throw new HttpError(400, 'a line of a commit is {"key", "value"}');
}

async function* lines(spool: Spool): AsyncGenerator<Buffer> {
  let held: Buffer[] = [];
  let length = 0;
  for await (const piece of spool.read()) {
    let rest = Buffer.from(piece);
    for (let end = rest.indexOf(NEWLINE); end >= 0; end = rest.indexOf(NEWLINE)) {
      const line = Buffer.concat([...held, rest.subarray(0, end)]);
      held = [];
      length = 0;
      if (line.length > 0) yield line;
      rest = rest.subarray(end + 1);
    }
    held.push(rest);
    length += rest.length;
    if (length > MAX_LINE) throw new HttpError(413, `a line of a commit has at most ${MAX_LINE} bytes`);
  }
  if (length > 0) yield Buffer.concat(held);
}
