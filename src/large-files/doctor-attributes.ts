/**
 * What .gitattributes, the index and the work tree say of each other: is every file that should be large
 * a pointer in the index, and does its content stand in the work tree?
 */
import { lstatSync } from 'node:fs';
import { basename, dirname, join, relative, resolve } from 'node:path';
import { quotePath } from '../filter-process/trace.ts';
import { checkAttributes } from '../git/attributes.ts';
import { git, gitLinesZ } from '../git/runner.ts';
import { type Fault, fault, type Patient } from './doctor-fault.ts';
import { type FilterLine, filterLines, matches } from './doctor-lines.ts';
import { LFS_FILTER_PROGRAM } from './lfs-install.ts';
import { listFiles, readBlobFacts } from './pointer-blobs.ts';
import { findPointerFile } from './pointer-files.ts';
import type { XetFilePointer } from './referenced-pointers.ts';
import { shellWord } from './shell-word.ts';

/** Paths that a command line names; more are told by their number. */
const MAX_NAMED = 8;

/** A file of the index. Paths are from the top of the work tree. */
interface IndexedFile {
  readonly path: Buffer;
  readonly oid: string;
  readonly filter: string;
  readonly text: string;
}

/** A file of the index that is a pointer, and what stands in its place. */
export interface CheckedPointer {
  readonly path: Buffer;
  readonly pointer: XetFilePointer;
  /** The file in the work tree has the size of the content. */
  readonly hasContent: boolean;
}

export interface AttributeCheck {
  readonly faults: readonly Fault[];
  /** True if some pattern, or some file, has filter=xet. */
  readonly isUsed: boolean;
  readonly pointers: readonly CheckedPointer[];
}

/** `workTree` is the top of the patient's work tree. */
export async function checkAttributeFaults(patient: Patient, workTree: string): Promise<AttributeCheck> {
  const run = { cwd: workTree, env: patient.env, keepGitEnv: true };
  const lines = await filterLines(patient, workTree);
  const tracked = lines.filter(({ filter }) => filter === 'xet');
  const files = await indexedFiles(run);
  const facts = await readBlobFacts(
    files.map(({ oid }) => oid),
    run,
  );
  const xet = files.filter(({ filter }) => filter === 'xet');
  const isUsed = tracked.length + xet.length > 0;
  const pointers: CheckedPointer[] = [];
  const stray: Buffer[] = [];
  const whole: Buffer[] = [];
  const unfetched: Buffer[] = [];
  for (const file of files) {
    const fact = facts.get(file.oid);
    if (fact === undefined) continue;
    const { pointer, size } = fact;
    if (pointer === undefined || pointer.kind === 'lfs') {
      if (pointer === undefined && size > 0 && file.filter === 'xet') whole.push(file.path);
      continue;
    }
    if (file.filter !== 'xet') stray.push(file.path);
    const place = Buffer.concat([Buffer.from(`${workTree}/`), file.path]);
    const isPointer = findPointerFile(Buffer.from(`${workTree}/`), file) !== undefined;
    if (isPointer && pointer.size > 0) unfetched.push(file.path);
    const stat = lstatSync(place, { throwIfNoEntry: false });
    pointers.push({
      path: file.path,
      pointer,
      hasContent: !isPointer && stat?.isFile() === true && stat.size === pointer.size,
    });
  }
  const inTop = (command: string) =>
    patient.cwd === workTree ? command : `(cd ${shellWord(workTree)} && ${command})`;
  const faults: Fault[] = [];
  // Large files may well be those of filter=lfs, which is ours, too.
  const isLfs = lines.some(({ filter }) => filter === 'lfs') && servesLfs(patient);
  if (!isUsed && !isLfs) {
    const message =
      'no pattern has filter=xet: git stores every file whole ("git2db xet migrate info" shows large ones)';
    faults.push(fault('warning', 'nothing-tracked', message, ["git2db xet track '*.bin'"]));
  }
  faults.push(...checkText(patient, workTree, tracked, xet));
  faults.push(...(await checkCommitted(workTree, tracked, run, inTop)));
  faults.push(...checkLfs(lines, tracked, workTree));
  faults.push(...(await checkOverridden(patient, workTree, lines, files)));
  if (whole.length > 0) {
    const message = `${count(whole, 'file has', 'files have')} filter=xet, but git holds the whole content`;
    faults.push(
      fault('error', 'stored-whole', message, [inTop(`git add --renormalize -- ${named(whole)}`)], whole),
    );
  }
  if (stray.length > 0) {
    const message = `${count(stray, 'pointer has', 'pointers have')} no filter=xet: a checkout leaves the pointer, and the next "git add" of the content stores it whole`;
    faults.push(
      fault(
        'error',
        'pointer-without-attribute',
        message,
        [inTop(`git2db xet track ${stray.slice(0, MAX_NAMED).map(trackable).join(' ')}`)],
        stray,
      ),
    );
  }
  if (unfetched.length > 0) {
    const skips = patient.config.bool('xet.skipSmudge', false);
    const message = `${count(unfetched, 'file is', 'files are')} left as pointers in the work tree${skips ? ', as xet.skipSmudge asks for' : ''}`;
    faults.push(
      fault(skips ? 'note' : 'warning', 'pointer-in-work-tree', message, ['git2db xet pull'], unfetched),
    );
  }
  return { faults, isUsed, pointers };
}

function count(paths: readonly unknown[], one: string, many: string): string {
  return `${paths.length} ${paths.length === 1 ? one : many}`;
}

function named(paths: readonly Buffer[]): string {
  return paths.length > MAX_NAMED ? '.' : paths.map((path) => shellWord(path)).join(' ');
}

/** A pattern for just this file. */
function trackable(path: Buffer): string {
  return shellWord(`/${path.toString('utf8').replace(/[*?[\\]/g, '\\$&')}`);
}

async function indexedFiles(run: {
  readonly cwd: string;
  readonly env: NodeJS.ProcessEnv;
  readonly keepGitEnv: boolean;
}): Promise<IndexedFile[]> {
  const staged = await listFiles(undefined, run);
  const files: IndexedFile[] = [];
  for await (const { attributes } of checkAttributes(
    staged.map(({ path }) => path),
    ['filter', 'text'],
    run,
  )) {
    const { path, oid } = staged[files.length]!;
    files.push({ path, oid, filter: attributes.get('filter') ?? '', text: attributes.get('text') ?? '' });
  }
  return files;
}

// ---- single faults ---------------------------------------------------------------------------

/** Pointers, and contents, must not have their line ends converted. */
function checkText(
  patient: Patient,
  workTree: string,
  tracked: readonly FilterLine[],
  xet: readonly IndexedFile[],
): Fault[] {
  const lines = tracked.filter(
    ({ attributes }) => attributes.findLast((name) => /^[-!]?text(?:=|$)/.test(name)) !== '-text',
  );
  const paths = xet.filter(({ text }) => text !== 'unset').map(({ path }) => path);
  // Without such a file a line may be made up for by another one.
  if (paths.length === 0 && (lines.length === 0 || xet.length > 0)) return [];
  const autocrlf = patient.config.get('core.autocrlf');
  const converts = autocrlf !== undefined && autocrlf.toLowerCase() !== 'false';
  const remedy = lines.map((line) => retrack(line, patient, workTree));
  if (remedy.length === 0)
    remedy.push(...paths.slice(0, MAX_NAMED).map((path) => `git2db xet track ${trackable(path)}`));
  const first = lines[0];
  const where = first === undefined ? 'another line' : `line ${first.line} of ${first.file}`;
  return converts
    ? [
        fault(
          'error',
          'autocrlf',
          `core.autocrlf is ${autocrlf}, and ${where} gives filter=xet without -text: git converts line ends around the filter`,
          remedy,
          paths,
        ),
      ]
    : [
        fault(
          'warning',
          'attributes-without-text-off',
          `${where} gives filter=xet without -text: git may convert line ends around the filter`,
          remedy,
          paths,
        ),
      ];
}

/** The command that gives a line all attributes of `git2db xet track`. */
function retrack({ pattern, folder, file, line }: FilterLine, { cwd }: Patient, workTree: string): string {
  if (folder === undefined) return `sed -i ${shellWord(`${line}s/$/ -text/`)} ${shellWord(file)}`;
  const directory = join(workTree, folder);
  const command = `git2db xet track ${shellWord(pattern)}`;
  return directory === cwd ? command : `(cd ${shellWord(directory)} && ${command})`;
}

async function checkCommitted(
  workTree: string,
  tracked: readonly FilterLine[],
  run: { readonly cwd: string; readonly env: NodeJS.ProcessEnv; readonly keepGitEnv: boolean },
  inTop: (command: string) => string,
): Promise<Fault[]> {
  const files = [
    ...new Set(
      tracked.filter(({ folder }) => folder !== undefined).map(({ file }) => relative(workTree, file)),
    ),
  ];
  if (files.length === 0) return [];
  const names = files.map((file) => `:(top,literal)${file}`);
  const known = new Set((await gitLinesZ(['ls-files', '-z', '--', ...names], run)).map(String));
  const folders = files.map((file) => dirname(file)).filter((folder) => folder !== '.');
  const { stdout } = await git(['check-ignore', '--no-index', '-z', '--stdin'], {
    ...run,
    input: [...files, ...folders].map((path) => `${path}\0`).join(''),
    okStatus: [0, 1],
  });
  const matched = new Set(stdout.toString('utf8').split('\0'));
  // In a folder that is ignored as a whole, such as that of a package manager, it means nothing.
  const ignored = files.filter(
    (file) => matched.has(file) && !matched.has(dirname(file)) && !known.has(file),
  );
  const faults: Fault[] = [];
  if (ignored.length > 0) {
    const message = `${ignored.join(', ')} is ignored by git: nobody else will know which files are large`;
    const paths = ignored.map((file) => Buffer.from(file));
    faults.push(
      fault('error', 'attributes-ignored', message, [inTop(`git add --force -- ${named(paths)}`)], paths),
    );
  }
  const status = await gitLinesZ(
    ['status', '--porcelain', '-z', '--no-renames', '--untracked-files=all', '--', ...names],
    run,
  );
  // Deleted from the index and there again: git names such a file twice.
  const byName = new Map(status.map((entry) => [entry.toString('latin1', 3), entry.subarray(3)]));
  const changed = [...byName.values()].filter((path) => !ignored.includes(path.toString('utf8')));
  if (changed.length > 0) {
    const message = `${changed.map(quotePath).join(', ')} ${changed.length === 1 ? 'is' : 'are'} not committed as ${changed.length === 1 ? 'it is' : 'they are'}: a clone will not know which files are large`;
    const remedy = [
      `git add -- ${named(changed)}`,
      `git commit -m 'Track large files' -- ${named(changed)}`,
    ].map(inTop);
    faults.push(fault('warning', 'attributes-not-committed', message, remedy, changed));
  }
  return faults;
}

/** One pattern with both drivers: which one wins is a matter of order. */
function servesLfs({ config }: Patient): boolean {
  const program = basename(config.get('filter.lfs.process') ?? '').replace(/\.js$/, '');
  return program === LFS_FILTER_PROGRAM;
}

function checkLfs(lines: readonly FilterLine[], tracked: readonly FilterLine[], workTree: string): Fault[] {
  const isSame = (a: FilterLine, b: FilterLine) =>
    a.pattern === b.pattern && (a.folder ?? '') === (b.folder ?? '');
  return lines
    .filter((line) => line.filter === 'lfs' && tracked.some((other) => isSame(line, other)))
    .map((line) => {
      const message = `${line.pattern} has filter=xet, and filter=lfs in line ${line.line} of ${shown(line, workTree)}`;
      return fault('warning', 'lfs-and-xet', message, [removal(line)]);
    });
}

/** Files that a tracked pattern matches and that do not get the filter. */
async function checkOverridden(
  patient: Patient,
  workTree: string,
  lines: readonly FilterLine[],
  files: readonly IndexedFile[],
): Promise<Fault[]> {
  const others = files.filter(({ filter }) => filter !== 'xet');
  const matching = await matches(patient, workTree, lines, others);
  const byCulprit = new Map<FilterLine | undefined, Buffer[]>();
  for (const [i, found] of matching.entries()) {
    const winner = found.reduce<FilterLine | undefined>(
      (best, line) => (best === undefined || line.rank > best.rank ? line : best),
      undefined,
    );
    if (!found.some(({ filter }) => filter === 'xet')) continue;
    // Where one of ours should win, a macro or the system's attributes do.
    const culprit = winner?.filter === 'xet' ? undefined : winner;
    byCulprit.set(culprit, [...(byCulprit.get(culprit) ?? []), others[i]!.path]);
  }
  return [...byCulprit].map(([culprit, paths]) => {
    const what = `${count(paths, 'file that a filter=xet pattern matches does', 'files that filter=xet patterns match do')} not get the filter`;
    if (culprit === undefined)
      return fault(
        'warning',
        'attribute-overridden',
        `${what}: a macro, or the system's attributes, win`,
        [],
        paths,
      );
    const said =
      culprit.filter === '-' ? '-filter' : culprit.filter === '!' ? '!filter' : `filter=${culprit.filter}`;
    const message = `${what}: line ${culprit.line} of ${shown(culprit, workTree)} says ${said} for ${culprit.pattern}. If that is not meant:`;
    return fault('warning', 'attribute-overridden', message, [removal(culprit)], paths);
  });
}

function removal({ line, file }: FilterLine): string {
  return `sed -i ${line}d ${shellWord(file)}`;
}

function shown({ file }: FilterLine, workTree: string): string {
  return relative(workTree, resolve(file)).startsWith('..') ? file : relative(workTree, file);
}
