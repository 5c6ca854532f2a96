/**
 * Which files are large: the lines of `.gitattributes` that give them the filter, and what that means
 * for files that git already holds.
 */
import { lstatSync, mkdtempSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { join, relative, resolve, sep } from 'node:path';
import {
  addLine,
  checkAttributes,
  listPatterns,
  quotePattern,
  removePattern,
  type TrackedPattern,
} from '../git/attributes.ts';
import { GitConfig } from '../git/config.ts';
import { git, gitLinesZ } from '../git/runner.ts';
import { errnoOf, Git2dbError } from '../xet/errors.ts';
import { listFiles, readBlobFacts, type TreeFile } from './pointer-blobs.ts';
import { isInside, type Place, requireWorkTree } from './work-tree.ts';

const PURPOSE = '.gitattributes belongs to a work tree';

/**
 * `filter=xet` is what makes a file large. `diff=xet` names a driver without a textconv: diffs show the
 * pointer. `merge=binary`: a text merge would put conflict markers into the pointer. `-text`: no
 * conversion of line ends around the filter.
 */
export const TRACK_ATTRIBUTES: readonly string[] = ['filter=xet', 'diff=xet', 'merge=binary', '-text'];

export type PatternChange = 'added' | 'updated' | 'unchanged';

export interface TrackResult {
  /** The file that was (with `dryRun`: would be) edited, relative to the top of the work tree. */
  readonly file: string;
  readonly patterns: readonly { readonly pattern: string; readonly change: PatternChange }[];
  /** Files in the index that match and whose whole content git holds; paths relative to `cwd`. */
  readonly plain: readonly Buffer[];
  /** Those of `plain` that are pointers in the index now; with `dryRun`, that would be. */
  readonly converted: readonly Buffer[];
  /** Those of `plain` that were left alone because the work tree holds something else. */
  readonly skipped: readonly Buffer[];
  /** Whether git is set up to run the filter here. */
  readonly filterInstalled: boolean;
}

export interface TrackOptions extends Place {
  readonly patterns: readonly string[];
  readonly dryRun: boolean;
  /** Turn `plain` into pointers, in the index. Throws REFUSED when no filter is configured. */
  readonly renormalize: boolean;
}

export async function track(options: TrackOptions): Promise<TrackResult> {
  const { cwd, dryRun, renormalize } = options;
  const { workTree: top } = requireWorkTree(options, PURPOSE);
  const folder = relative(top, cwd);
  const filterInstalled = isFilterInstalled(cwd);
  if (renormalize && !filterInstalled) {
    throw new Git2dbError('REFUSED', "git would store the files whole again: run 'git2db xet install' first");
  }
  const old = readAttributesFile(cwd);
  let text: Buffer = old;
  const patterns = options.patterns.map((pattern) => {
    const edit = addLine(text, pattern, TRACK_ATTRIBUTES);
    text = edit.text;
    const change: PatternChange = !edit.changed
      ? 'unchanged'
      : edit.before.state === 'absent'
        ? 'added'
        : 'updated';
    return { pattern, change };
  });
  const plain = await findPlainFiles(options, folder);
  // Asked before the edit: afterwards the filter decides whether a file is modified.
  const modified = renormalize && plain.length > 0 ? await modifiedPaths(cwd) : new Set<string>();
  const [skipped, wanted] = partition(plain, ({ path }) => modified.has(path.toString('latin1')));
  if (!dryRun && !text.equals(old)) writeAttributesFile(cwd, text);
  const converted = renormalize ? (dryRun ? wanted : await convert(cwd, wanted)) : [];
  return {
    file: relative(top, join(cwd, '.gitattributes')),
    patterns,
    plain: plain.map(({ path }) => path),
    converted: converted.map(({ path }) => path),
    skipped: skipped.map(({ path }) => path),
    filterInstalled,
  };
}

export interface UntrackResult {
  readonly file: string;
  readonly removed: readonly string[];
  /** Patterns that the file does not track. */
  readonly absent: readonly string[];
}

export async function untrack(
  options: Place & { readonly patterns: readonly string[]; readonly dryRun: boolean },
): Promise<UntrackResult> {
  const { cwd } = options;
  const { workTree: top } = requireWorkTree(options, PURPOSE);
  const old = readAttributesFile(cwd);
  let text: Buffer = old;
  const [removed, absent] = partition(options.patterns, (pattern) => {
    const edit = removePattern(text, pattern, TRACK_ATTRIBUTES);
    text = edit.text;
    return edit.changed;
  });
  if (!options.dryRun && removed.length > 0) writeAttributesFile(cwd, text);
  return { file: relative(top, join(cwd, '.gitattributes')), removed, absent };
}

export interface ListedPattern extends TrackedPattern {
  /** The file that holds the line: relative to the top of the work tree, or absolute when outside it. */
  readonly source: string;
}

/** Every pattern with `filter=xet` that git would look at in this repository. */
export async function listTracked(place: Place): Promise<ListedPattern[]> {
  const { workTree: top, commonDir } = requireWorkTree(place, PURPOSE);
  const inTree = await gitLinesZ(
    ['ls-files', '-z', '--cached', '--others', '--exclude-standard', '--', ':(top,glob)**/.gitattributes'],
    { cwd: top, keepGitEnv: true },
  );
  const sources = [...new Set(inTree.map((path) => path.toString('utf8')))].sort();
  const own = join(commonDir, 'info', 'attributes');
  const shown = (path: string) => (isInside(top, path) ? relative(top, path) : path);
  return [...sources.map((source) => resolve(top, source)), own, userAttributesFile(place)].flatMap((path) =>
    listPatterns(readOptional(path))
      .filter(
        ({ attributes }) => attributes.findLast((name) => /^[-!]?filter(=|$)/.test(name)) === 'filter=xet',
      )
      .map((pattern) => ({ ...pattern, source: shown(path) })),
  );
}

// ---- files -----------------------------------------------------------------------------------

function readAttributesFile(folder: string): Buffer {
  const path = join(folder, '.gitattributes');
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (stat !== undefined && !stat.isFile() && !stat.isSymbolicLink()) {
    throw new Git2dbError(
      'REFUSED',
      `${path} is no file, so git reads no patterns from it: move it away first`,
    );
  }
  if (stat?.isSymbolicLink()) {
    throw new Git2dbError(
      'REFUSED',
      `${path} is a symbolic link, which git does not follow: make it a file first`,
    );
  }
  return readOptional(path);
}

/** Replaces the file in one step, with the permissions it had. */
function writeAttributesFile(folder: string, text: Buffer): void {
  const path = join(folder, '.gitattributes');
  const mode = statSync(path, { throwIfNoEntry: false })?.mode;
  const temporary = `${path}.${process.pid}.tmp`;
  try {
    writeFileSync(temporary, text, { flag: 'wx', ...(mode === undefined ? {} : { mode: mode & 0o777 }) });
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  }
}

export function readOptional(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') return Buffer.alloc(0);
    throw error;
  }
}

/** core.attributesFile, or where git looks without it. */
export function userAttributesFile({ cwd, env }: Place): string {
  const configured = GitConfig.load(cwd, '^core\\.attributesfile$').get('core.attributesFile');
  if (configured !== undefined) return resolve(cwd, configured.replace(/^~(?=\/)/, env.HOME ?? homedir()));
  return join(env.XDG_CONFIG_HOME || join(env.HOME ?? homedir(), '.config'), 'git', 'attributes');
}

// ---- files git already holds -----------------------------------------------------------------

/** A name no repository uses; says "one of the new patterns matches". */
const MATCHED = 'git2db-matched';

/** The files of the index below `cwd` that the patterns match and that are not empty and no pointers. */
async function findPlainFiles({ cwd, env, patterns }: TrackOptions, folder: string): Promise<TreeFile[]> {
  const run = { cwd, keepGitEnv: true };
  const files = await listFiles(undefined, run);
  if (files.length === 0) return [];
  // Git itself does the matching, by a file of attributes that is asked about nothing else.
  const temporary = mkdtempSync(join(tmpdir(), 'git2db-track-'));
  try {
    const attributesFile = join(temporary, 'attributes');
    const lines = patterns.map((pattern) => `${quotePattern(patternFromTop(pattern, folder))} ${MATCHED}\n`);
    writeFileSync(attributesFile, lines.join(''));
    const matching: TreeFile[] = [];
    const paths = files.map(({ path }) => path);
    let at = 0;
    const setting = oneMoreSetting(env, 'core.attributesFile', attributesFile);
    for await (const { attributes } of checkAttributes(paths, [MATCHED], { ...run, env: setting })) {
      if (attributes.get(MATCHED) === 'set') matching.push(files[at]!);
      at++;
    }
    const facts = await readBlobFacts(
      matching.map(({ oid }) => oid),
      run,
    );
    return matching.filter(({ oid }) => {
      const fact = facts.get(oid);
      return fact !== undefined && fact.size > 0 && fact.pointer === undefined;
    });
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
}

/** A pattern of `<folder>/.gitattributes`, as a file of attributes at the top would write it. */
export function patternFromTop(pattern: string, folder: string): string {
  if (folder === '') return pattern;
  const prefix = folder
    .split(sep)
    .join('/')
    .replace(/[*?[\\]/g, '\\$&');
  const anchored = pattern.includes('/');
  return `/${prefix}/${anchored ? pattern.replace(/^\//, '') : `**/${pattern}`}`;
}

/** One more `git -c`, for a run that has no place for it. */
export function oneMoreSetting(env: NodeJS.ProcessEnv, key: string, value: string): Record<string, string> {
  const count = Number(env.GIT_CONFIG_COUNT || 0);
  return {
    GIT_CONFIG_COUNT: String(count + 1),
    [`GIT_CONFIG_KEY_${count}`]: key,
    [`GIT_CONFIG_VALUE_${count}`]: value,
  };
}

function isFilterInstalled(cwd: string): boolean {
  const config = GitConfig.load(cwd, '^filter\\.xet\\.');
  return Boolean(config.get('filter.xet.process') || config.get('filter.xet.clean'));
}

/** Paths, one byte a character, whose work tree file is not what the index holds. */
async function modifiedPaths(cwd: string): Promise<Set<string>> {
  const paths = await gitLinesZ(['diff', '--name-only', '-z', '--relative', '--no-ext-diff'], {
    cwd,
    keepGitEnv: true,
  });
  return new Set(paths.map((path) => path.toString('latin1')));
}

/** Has git clean the files again; those that are pointers in the index then. */
async function convert(cwd: string, files: readonly TreeFile[]): Promise<TreeFile[]> {
  if (files.length === 0) return [];
  const run = { cwd, keepGitEnv: true };
  await git(['add', '--renormalize', '--pathspec-from-file=-', '--pathspec-file-nul'], {
    ...run,
    env: { GIT_LITERAL_PATHSPECS: '1' },
    input: Buffer.concat(files.flatMap(({ path }) => [path, Buffer.of(0)])),
  });
  const asked = new Set(files.map(({ path }) => path.toString('latin1')));
  const now = (await listFiles(undefined, run)).filter(({ path }) => asked.has(path.toString('latin1')));
  const facts = await readBlobFacts(
    now.map(({ oid }) => oid),
    run,
  );
  return now.filter(({ oid }) => facts.get(oid)?.pointer !== undefined);
}

function partition<T>(items: readonly T[], test: (item: T) => boolean): [T[], T[]] {
  const yes: T[] = [];
  const no: T[] = [];
  for (const item of items) (test(item) ? yes : no).push(item);
  return [yes, no];
}
