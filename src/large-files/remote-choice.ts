/**
 * Where the content of a git remote's large files is kept. The first of these that says something counts:
 *
 *     remote.<name>.xeturl     git configuration, for one remote
 *     xet.remote               git configuration, for all; an address, or the name of another git remote
 *     .gitxet                  tracked by git: only an address on the authority of the git remote, or one that
 *                              was trusted by `git2db xet trust`
 *     the URL of the remote    a repository on this machine: its store; a Hugging Face host: the Hub; a URL
 *                              of http(s) whose server says that it is git2db's: its service
 *
 * A function of what it is given: nothing is read here, and the probe is asked only when the URL is reached.
 */
import { Git2dbError } from '../xet/errors.ts';
import { schemeOf, shownUrl } from '../xet/remote/address.ts';
import type { GitxetFile } from './gitxet-file.ts';
import { parsePlaceUrl, webAuthority } from './place-url.ts';

export type ChosenPlace =
  /** A store's directory. `repository`: the common git directory whose store it is. */
  | { readonly kind: 'directory'; readonly path: string; readonly repository: string | undefined }
  /** A Xet service, a web server or a bucket, by its address. */
  | { readonly kind: 'address'; readonly address: string }
  /** The service beside a repository that git2db serves. */
  | XetService
  | { readonly kind: 'hub'; readonly url: string };

export interface XetService {
  readonly kind: 'service';
  readonly gitUrl: string;
  readonly casUrl: string;
  readonly tokenUrl: string;
}

export type CandidateSource = 'remote-xeturl' | 'xet-remote' | 'gitxet' | 'git-url';

export interface Candidate {
  readonly source: CandidateSource;
  /** What it is called for a person: `remote.origin.xeturl`, `.gitxet`. */
  readonly name: string;
  /** The place, without secrets; undefined where nothing is set. */
  readonly place: string | undefined;
  readonly verdict: 'taken' | 'unset' | 'invalid' | 'untrusted' | 'unsupported' | 'not-needed';
  readonly reason: string;
}

export interface RemoteChoice {
  /** Name of the git remote; undefined for a mere URL. */
  readonly remote: string | undefined;
  /** Of the git remote, without secrets. */
  readonly url: string;
  /** Undefined: there is none, and `candidates` say why. */
  readonly place: ChosenPlace | undefined;
  /** In the order of precedence. */
  readonly candidates: readonly Candidate[];
}

export interface RemoteQuestion {
  readonly remote: string | undefined;
  /** The URL git uses, after insteadOf, in the direction that is asked for. */
  readonly url: string;
  /** remote.<name>.xeturl */
  readonly xetUrl: string | undefined;
  /** xet.remote */
  readonly xetRemote: string | undefined;
  /** URLs of the git remotes by name, for an `xet.remote` that names one. */
  readonly remotes: ReadonlyMap<string, string>;
  /** An error: the file is there and cannot be used. */
  readonly gitxet: GitxetFile | Git2dbError | undefined;
  /** Keys (see place-url.ts) that the user trusts. */
  readonly trusted: ReadonlySet<string>;
  /** Authorities of Hugging Face hosts. */
  readonly hubs: ReadonlySet<string>;
  /** Where relative paths start. */
  readonly base: string;
}

export interface RemoteProbe {
  /** The store of the repository at a path or file:// URL; undefined: there is no repository. */
  localStore(url: string): { readonly path: string; readonly repository: string } | undefined;
  /** What the server of a git URL says of itself; a string: why it is none of ours. */
  service(gitUrl: string): Promise<XetService | string>;
}

/** Throws URL_INVALID for a setting of the user that is no address: nothing else is taken for it silently. */
export async function chooseRemote(question: RemoteQuestion, probe: RemoteProbe): Promise<RemoteChoice> {
  const candidates: Candidate[] = [];
  let place: ChosenPlace | undefined;
  const steps: (() => Verdict | Promise<Verdict>)[] = [
    () => fromRemoteSetting(question),
    () => fromXetRemote(question, probe),
    () => fromGitxet(question),
    () => fromGitUrl(question.url, question, probe),
  ];
  for (const [index, step] of steps.entries()) {
    const { source, name } = sourceAt(index, question);
    if (place !== undefined) {
      const setting = [question.xetUrl, question.xetRemote][index];
      const reason = 'what stands before it counts';
      candidates.push({ source, name, place: setting && shownUrl(setting), verdict: 'not-needed', reason });
      continue;
    }
    const { found, ...verdict } = await step();
    place = found;
    candidates.push({ source, name, ...verdict });
  }
  return { remote: question.remote, url: shownUrl(question.url), place, candidates };
}

/** Why there is no place, in one line. */
export function whyNoPlace({ candidates }: Pick<RemoteChoice, 'candidates'>): string {
  const telling = candidates.filter(({ verdict }) => verdict !== 'unset' && verdict !== 'not-needed');
  return telling.map(({ name, reason }) => `${name}: ${reason}`).join('; ');
}

/** TRUST_REQUIRED where trusting is what is missing, else REMOTE_MISSING. */
export function noPlace(choice: RemoteChoice): Git2dbError {
  const untrusted = choice.candidates.find(({ verdict }) => verdict === 'untrusted');
  const who = choice.remote === undefined ? choice.url : `${choice.remote} (${choice.url})`;
  const remedy =
    untrusted === undefined
      ? `name one: git config remote.${choice.remote ?? 'NAME'}.xeturl URL`
      : `if you trust it: git2db xet trust ${untrusted.place}`;
  return new Git2dbError(
    untrusted === undefined ? 'REMOTE_MISSING' : 'TRUST_REQUIRED',
    `the remote ${who} has no place for the content of large files: ${whyNoPlace(choice)}; ${remedy}`,
    { data: { remote: choice.remote, url: choice.url } },
  );
}

type Verdict = Pick<Candidate, 'place' | 'verdict' | 'reason'> & { readonly found?: ChosenPlace | undefined };

const UNSET: Verdict = { place: undefined, verdict: 'unset', reason: 'not set' };

function sourceAt(index: number, { remote }: RemoteQuestion): Pick<Candidate, 'source' | 'name'> {
  const all = [
    { source: 'remote-xeturl', name: `remote.${remote ?? 'NAME'}.xeturl` },
    { source: 'xet-remote', name: 'xet.remote' },
    { source: 'gitxet', name: '.gitxet' },
    { source: 'git-url', name: 'the URL of the remote' },
  ] as const;
  return all[index]!;
}

function fromRemoteSetting({ xetUrl, base }: RemoteQuestion): Verdict {
  return xetUrl === undefined || xetUrl === '' ? UNSET : taken(xetUrl, base, 'it is set');
}

async function fromXetRemote(question: RemoteQuestion, probe: RemoteProbe): Promise<Verdict> {
  const { xetRemote, remotes, base } = question;
  if (xetRemote === undefined || xetRemote === '') return UNSET;
  const url = remotes.get(xetRemote);
  if (url === undefined && !isAddress(xetRemote)) throw noSuchRemote(xetRemote, [...remotes.keys()]);
  if (url === undefined) return taken(xetRemote, base, 'it is set');
  const verdict = await fromGitUrl(url, question, probe);
  return { ...verdict, reason: `the git remote ${xetRemote}: ${verdict.reason}` };
}

/** Whether it can be nothing but an address: a word alone is the name of a remote. */
function isAddress(text: string): boolean {
  return text.includes('/') || text === '.' || text === '..' || schemeOf(text) !== undefined;
}

function noSuchRemote(name: string, known: readonly string[]): Git2dbError {
  const shown = JSON.stringify(shownUrl(name));
  const there = known.length === 0 ? 'there is none' : `known: ${known.join(', ')}`;
  return new Git2dbError(
    'URL_INVALID',
    `xet.remote is ${shown}, and no git remote has this name (${there}): correct it, or write the path of a directory ` +
      'with ./ before',
    { data: { url: shownUrl(name) } },
  );
}

function fromGitxet({ gitxet, url, trusted }: RemoteQuestion): Verdict {
  if (gitxet === undefined) return { ...UNSET, reason: 'there is none' };
  if (gitxet instanceof Git2dbError) return { place: undefined, verdict: 'invalid', reason: gitxet.message };
  if (gitxet.url === undefined) return { ...UNSET, reason: 'it names no url' };
  let place: ReturnType<typeof parsePlaceUrl>;
  try {
    place = parsePlaceUrl(gitxet.url);
  } catch (error) {
    if (!(error instanceof Git2dbError)) throw error;
    return { place: shownUrl(gitxet.url), verdict: 'invalid', reason: error.message };
  }
  const own = webAuthority(url);
  const isOwn = own !== undefined && place.authority === own;
  if (isOwn || trusted.has(place.key)) {
    const reason = isOwn ? `it is on ${own}, as the git remote` : 'you trust it';
    return { place: place.key, verdict: 'taken', reason, found: chosen(place) };
  }
  const reason =
    `it names ${place.key}, which is not on the authority of the git remote ` +
    `(${own ?? shownUrl(url)}), so it is used for nothing until you trust it`;
  return { place: place.key, verdict: 'untrusted', reason };
}

async function fromGitUrl(url: string, { hubs }: RemoteQuestion, probe: RemoteProbe): Promise<Verdict> {
  const place = shownUrl(url);
  if (isLocal(url)) {
    const found = probe.localStore(url);
    if (found === undefined)
      return { place, verdict: 'unsupported', reason: `${place} is no git repository of this machine` };
    const reason = 'a repository on this machine: its store';
    return { place: found.path, verdict: 'taken', reason, found: { kind: 'directory', ...found } };
  }
  const authority = webAuthority(url);
  if (authority === undefined) {
    const reason = `no place for content follows from ${place}, which is not http(s)`;
    return { place, verdict: 'unsupported', reason };
  }
  if (hubs.has(authority))
    return { place, verdict: 'taken', reason: 'a Hugging Face host: the Hub', found: { kind: 'hub', url } };
  const service = await probe.service(url);
  if (typeof service === 'string') return { place, verdict: 'unsupported', reason: service };
  return { place: service.casUrl, verdict: 'taken', reason: 'its server is git2db', found: service };
}

function taken(setting: string, base: string, reason: string): Verdict {
  const place = parsePlaceUrl(setting, base);
  return { place: shownUrl(place.key), verdict: 'taken', reason, found: chosen(place) };
}

function chosen(place: ReturnType<typeof parsePlaceUrl>): ChosenPlace {
  return place.kind === 'directory'
    ? { kind: 'directory', path: place.address, repository: undefined }
    : { kind: 'address', address: place.address };
}

/** Git's rule: a path unless it has a scheme, or a colon before the first slash. */
export function isLocal(url: string): boolean {
  if (/^file:\/\//i.test(url)) return true;
  if (/^[a-z][a-z0-9+.-]*:\/\//i.test(url)) return false;
  const colon = url.indexOf(':');
  const slash = url.indexOf('/');
  return colon < 0 || (slash >= 0 && slash < colon);
}
