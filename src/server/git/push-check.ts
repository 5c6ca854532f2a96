/**
 * Whether a push can be accepted: every pointer in it that is new here must have content that this server can
 * give out. Otherwise everybody who clones gets pointers, and nobody notices before.
 */
import { splitRecords } from '../../git/records.ts';
import { git, gitStream } from '../../git/runner.ts';
import { readSmallBlobs } from '../../git/small-blobs.ts';
import { parseHash } from '../../xet/hash/xet-hash.ts';
import { POINTER_MAX, type Pointer, sniffPointer } from '../../xet/pointer/sniff.ts';
import type { ServableStore } from '../../xet/store/store.ts';
import { EMPTY_SHA256 } from '../content.ts';
import { bareEnvironment } from './environment.ts';

export interface PushQuestion {
  /** Git directory of the repository. */
  readonly directory: string;
  /** Variables by which git sees the objects of the push. */
  readonly quarantine: Readonly<Record<string, string>>;
  /** `<old> <new> <ref>`, a line each. */
  readonly updates: string;
  readonly signal: AbortSignal;
}

interface Found {
  readonly path: string;
  readonly pointer: Pointer;
}

const BATCH = 512;
const MAX_NAMED = 20;
const NEWLINE = 0x0a;
const EMPTY_FILE = '0'.repeat(64);

/** Undefined: accepted. Else the text for whoever pushes. */
export async function checkPush(store: ServableStore, question: PushQuestion): Promise<string | undefined> {
  const { directory, quarantine, updates, signal } = question;
  const env = bareEnvironment({ ...quarantine, GIT_DIR: directory, GIT_NO_REPLACE_OBJECTS: '1' });
  const run = { cwd: directory, env, keepGitEnv: true, signal };
  const tips = updates
    .split('\n')
    .map((line) => line.split(' ')[1] ?? '')
    .filter((oid) => /^(?:[0-9a-f]{40}|[0-9a-f]{64})$/.test(oid) && !/^0+$/.test(oid));
  if (tips.length === 0 || (await settingOf('git2db.checkPointers', run)) === 'false') return undefined;
  const isLfsHere = !(await namesOtherLfsServer(tips, run));
  const missing: Found[] = [];
  let batch: Found[] = [];
  const flush = async () => {
    for (const found of await missingAmong(store, batch, signal)) missing.push(found);
    batch = [];
  };
  for await (const found of newPointers(tips, run)) {
    if (found.pointer.kind === 'lfs' && !isLfsHere) continue;
    batch.push(found);
    if (batch.length === BATCH) await flush();
  }
  await flush();
  return missing.length === 0 ? undefined : refusal(missing);
}

type Run = Parameters<typeof gitStream>[1] & { readonly cwd: string };

/** Pointer blobs that are reachable from `tips` and from no ref that is here. */
async function* newPointers(tips: readonly string[], run: Run): AsyncIterable<Found> {
  const paths = new Map<string, string>();
  async function* smallBlobs(): AsyncIterable<string> {
    const walk = [
      'rev-list',
      '--objects',
      `--filter=blob:limit=${POINTER_MAX + 1}`,
      '--stdin',
      '--not',
      '--all',
    ];
    const listed = gitStream(walk, { ...run, input: `${tips.join('\n')}\n` });
    const format = '--batch-check=%(objecttype) %(objectsize) %(objectname) %(rest)';
    const checked = gitStream(['cat-file', '--buffer', format], { ...run, input: listed.stdout });
    for await (const line of splitRecords(checked.stdout, NEWLINE)) {
      const [type, size, oid] = line.toString('latin1', 0, 160).split(' ', 3) as [string, string, string];
      if (type !== 'blob' || Number(size) > POINTER_MAX || Number(size) === 0) continue;
      paths.set(oid, line.toString('utf8', type.length + size.length + oid.length + 3));
      yield oid;
    }
    await listed.done;
  }
  for await (const { oid, body } of readSmallBlobs(smallBlobs(), { ...run, maxSize: POINTER_MAX })) {
    const path = paths.get(oid) ?? '';
    paths.delete(oid);
    const pointer = sniffPointer(body);
    if (pointer !== undefined) yield { path, pointer };
  }
}

async function missingAmong(
  store: ServableStore,
  found: readonly Found[],
  signal: AbortSignal,
): Promise<Found[]> {
  const sha256s = found.flatMap(({ pointer }) => (pointer.kind === 'lfs' ? [pointer.sha256] : []));
  const byLfs = await store.findSha256s(sha256s, { signal });
  let next = 0;
  const wanted = found.map((each) => {
    const { pointer } = each;
    if (pointer.kind === 'lfs')
      return { each, hash: byLfs[next++], isEmpty: pointer.sha256 === EMPTY_SHA256 };
    return { each, hash: parseHash(pointer.hash), isEmpty: pointer.hash === EMPTY_FILE };
  });
  const asked = wanted.filter(({ hash, isEmpty }) => hash !== undefined && !isEmpty);
  const files = await store.findFiles(
    asked.map(({ hash }) => hash as Uint8Array),
    { signal },
  );
  const sizes = new Map(asked.map(({ each }, i) => [each, files[i]?.size]));
  return wanted
    .filter(({ each, isEmpty }) => !isEmpty && sizes.get(each) !== each.pointer.size)
    .map(({ each }) => each);
}

function refusal(missing: readonly Found[]): string {
  const lines = missing.slice(0, MAX_NAMED).map(({ path, pointer }) => {
    const what = pointer.kind === 'lfs' ? `LFS object ${pointer.sha256}` : `file ${pointer.hash}`;
    return `  ${printable(path)} (${what}, ${pointer.size} bytes)`;
  });
  const more = missing.length > MAX_NAMED ? [`  and ${missing.length - MAX_NAMED} more`] : [];
  const hasLfs = missing.some(({ pointer }) => pointer.kind === 'lfs');
  const hasXet = missing.some(({ pointer }) => pointer.kind !== 'lfs');
  const remedies = [
    ...(hasXet ? ["'git2db xet push REMOTE'"] : []),
    ...(hasLfs ? ["'git lfs push --all REMOTE' (or 'git2db xet push REMOTE')"] : []),
  ];
  return [
    'git2db serve: refused: the push has pointers to large files whose content is not on this server:',
    ...lines,
    ...more,
    `Upload the content first, by ${remedies.join(' and ')}, then push again.`,
    '',
  ].join('\n');
}

function printable(path: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: a path may hold what steers a terminal
  return path === '' ? '(no path)' : path.replace(/[\x00-\x1f\x7f-\x9f]/g, '?');
}

/** A repository may say that its LFS objects are elsewhere. */
async function namesOtherLfsServer(tips: readonly string[], run: Run): Promise<boolean> {
  for (const tip of tips) {
    const args = ['config', '--blob', `${tip}:.lfsconfig`, '--get', 'lfs.url'];
    const { status, stdout } = await git(args, { ...run, input: '', okStatus: [0, 1, 128, 255] });
    if (status === 0 && stdout.length > 1) return true;
  }
  return false;
}

async function settingOf(key: string, run: Run): Promise<string> {
  const { stdout } = await git(['config', '--bool', '--get', key], { ...run, input: '', okStatus: [0, 1] });
  return stdout.toString('utf8').trim();
}
