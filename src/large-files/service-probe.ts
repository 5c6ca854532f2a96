/**
 * Whether the server of a git URL is git2db's: one question without any credential. That it is not is noted in
 * the common git directory and not asked again for a day.
 *
 *     <common dir>/git2db/no-xet-service     one line a URL: milliseconds since 1970, blank, URL without secrets
 */
import { mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { HttpClient } from '../xet/cas/http.ts';
import { parseXetInfo } from '../xet/cas/protocol.ts';
import { Git2dbError } from '../xet/errors.ts';
import { readRegular } from '../xet/regular-file.ts';
import { bareUrl, shownUrl } from '../xet/remote/address.ts';
import { webAuthority } from './place-url.ts';
import type { XetService } from './remote-choice.ts';

const DAY_MS = 86_400_000;
const MAX_ANSWER = 64 * 1024;
const MAX_NOTES = 100;
const NOT_OURS = [301, 302, 303, 307, 308, 400, 401, 403, 404, 405, 406, 410, 422, 501];

export interface ProbeOptions {
  readonly http: HttpClient;
  readonly commonDir: string;
  /** Ask again, whatever is noted. */
  readonly refresh: boolean;
  /** Whether the service may be on another authority than the git URL. */
  readonly isTrusted: (url: string) => boolean;
  readonly signal?: AbortSignal | undefined;
}

/** The service, or why there is none. Throws NETWORK where the server cannot be asked. */
export async function probeService(gitUrl: string, options: ProbeOptions): Promise<XetService | string> {
  const own = webAuthority(gitUrl);
  if (own === undefined) return `${shownUrl(gitUrl)} is not on http(s)`;
  const base = bareUrl(gitUrl).replace(/\/+$/, '');
  const notes = readNotes(options.commonDir);
  const noted = notes.get(base);
  if (!options.refresh && noted !== undefined && Date.now() - noted < DAY_MS && noted <= Date.now()) {
    const hour = new Date(noted).toISOString().slice(0, 16);
    return `its server was no git2db at ${hour}Z (asked once a day; "git2db xet doctor" asks again)`;
  }
  const why = await ask(base, own, options);
  if (typeof why === 'string') notes.set(base, Date.now());
  else if (!notes.delete(base)) return why;
  writeNotes(options.commonDir, notes);
  return why;
}

async function ask(base: string, own: string, options: ProbeOptions): Promise<XetService | string> {
  const { http, isTrusted, signal } = options;
  let response: Awaited<ReturnType<HttpClient['request']>>;
  try {
    response = await http.request({
      method: 'GET',
      url: `${base}/info/xet`,
      accept: [200, ...NOT_OURS],
      headers: { accept: 'application/json' },
      signal,
    });
  } catch (error) {
    // A redirect that may not be followed, an answer that breaks the protocol: a server of some other kind.
    if (error instanceof Git2dbError && error.code === 'REMOTE_INVALID') return error.message;
    throw error;
  }
  if (response.status !== 200) {
    await response.discard();
    return `its server is no git2db (it answers ${response.status} for ${shownUrl(base)}/info/xet)`;
  }
  if (webAuthority(response.url) !== own) {
    await response.discard();
    return `its server sends us to ${webAuthority(response.url)}, which is not asked`;
  }
  let info: ReturnType<typeof parseXetInfo>;
  try {
    info = parseXetInfo(await response.json(MAX_ANSWER));
  } catch (error) {
    if (!(error instanceof Git2dbError) || error.code === 'NETWORK') throw error;
  }
  if (info === undefined) return `its server is no git2db (${base}/info/xet says something else)`;
  if (webAuthority(info.tokenUrl) !== own)
    return `its server names a token service on ${webAuthority(info.tokenUrl)}, which is refused`;
  if (webAuthority(info.casUrl) !== own && !isTrusted(info.casUrl)) {
    throw new Git2dbError(
      'TRUST_REQUIRED',
      `${base} names a Xet service on another authority, ${shownUrl(info.casUrl)}, so it is used for nothing until ` +
        `you trust it: git2db xet trust ${shownUrl(info.casUrl)}`,
      { data: { url: shownUrl(info.casUrl) } },
    );
  }
  return { kind: 'service', gitUrl: base, casUrl: info.casUrl.replace(/\/+$/, ''), tokenUrl: info.tokenUrl };
}

function notesFile(commonDir: string): string {
  return join(commonDir, 'git2db', 'no-xet-service');
}

function readNotes(commonDir: string): Map<string, number> {
  let text: string;
  try {
    text = readRegular(notesFile(commonDir), 'INVALID_CONFIG').toString('utf8');
  } catch {
    return new Map();
  }
  return new Map(
    text.split('\n').flatMap((line): [string, number][] => {
      const match = /^(\d{1,15}) (\S+)$/.exec(line);
      return match === null ? [] : [[match[2]!, Number(match[1])]];
    }),
  );
}

/** A cache: who may not write it asks again. */
function writeNotes(commonDir: string, notes: ReadonlyMap<string, number>): void {
  const file = notesFile(commonDir);
  const temporary = `${file}.${process.pid}.tmp`;
  const lines = [...notes].sort(([, a], [, b]) => b - a).slice(0, MAX_NOTES);
  try {
    mkdirSync(join(commonDir, 'git2db'), { recursive: true });
    writeFileSync(temporary, lines.map(([url, time]) => `${time} ${url}\n`).join(''));
    renameSync(temporary, file);
  } catch {
    rmSync(temporary, { force: true });
  }
}
