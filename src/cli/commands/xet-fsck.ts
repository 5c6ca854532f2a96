import { count } from '../../count.ts';
import { EXIT_FALSE, EXIT_OK } from '../../exit-codes.ts';
import { quotePath } from '../../filter-process/trace.ts';
import type { ElsewhereFile, FsckReport, LostFile } from '../../large-files/fsck-report.ts';
import type { Damage, FileFault } from '../../xet/store/fsck-damage.ts';
import { type CommandContext, defineCommand, NO_OPERANDS } from '../command.ts';
import { formatBytes, type Progress } from '../output.ts';
import { pathDocument } from '../present.ts';

export const xetFsck = defineCommand({
  path: ['xet', 'fsck'],
  summary: 'Check that all contents are there and intact, and mend them',
  description: `Reads the whole store and checks every chunk, xorb, shard, journal and catalog
table against its hash, and every pointer that any branch, tag, stash, reflog,
index or worktree of the repositories using the store still has. Each damage is
named: what, where, what was expected and what was found; each lost content by
path and commit. Nothing is changed.

Content that was evicted is not lost: it is told where it was proved to be then. Other
content that is not here counts as missing, as nobody knows whether it is anywhere;
--remote asks the remotes of this repository for proof that they hold it, also what was
evicted. So it is for a clone that has fetched the content of some commits only.

With --repair, damaged objects are moved to quarantine/ in the store (nothing is
deleted), whatever is whole is stored again, and what is lost is taken from files
of the work trees, from git-lfs's objects and from other stores on this machine, and
what is still missing then is fetched from the remotes. What was evicted stays there.
What dead writers left is completed. Then it says what came back and what stays lost.

Other processes may go on using the store. Ctrl-C is safe at any time.

JSON: {"ok","store","checked":{"xorbs","chunks","shards","files","tables",
"writers","bytes","pointers","repositories"},"damage":[{"object","name","path",
"chunk","offset","expected","found"}],"lost":[{"repository","commit","path",
"oid","fileHash","size","state","faults":[{"fileOffset","xorb","chunk",
"chunkEnd","offset","expected","found"}]}],"elsewhere":[{"repository","commit","path",
"oid","fileHash","size","place","provedAt"}],"unreadable":[{"commonDir","reason"}],
"unreferenced","undescribed","missingShards","strays","absentObjects","repair":
{"quarantined","rebuilt","mended","healed","remaining"}}. "object" is xorb, shard,
catalog or incoming; "state" missing, damaged or wrong-size; "repair" null unless
asked for, "healed" has the form of "lost", "remaining" that of "damage". Numbers
and names that do not apply are null.`,
  operands: NO_OPERANDS,
  options: {
    repair: { type: 'boolean', describe: 'Mend what can be mended', conflicts: ['quick'] },
    remote: { type: 'boolean', describe: 'Ask the remotes whether they hold what is not here' },
    quick: { type: 'boolean', describe: 'Do not read the chunks, only what describes them' },
  },
  examples: [
    ['git2db xet fsck', 'is all there?'],
    ['git2db xet fsck --quick', 'in seconds: all but bit rot in the chunks'],
    ['git2db xet fsck --quick --remote', 'is what is not here in the remotes?'],
    ['git2db xet fsck --repair', 'mend, and say what stays lost'],
  ],
  exitCodes: [
    [EXIT_FALSE, 'Something is damaged or missing; with --repair: something stays so'],
    [4, 'Not in a repository'],
    [5, 'git cannot read this repository: "git fsck" tells why'],
  ],
  async run({ options }, context) {
    const { cwd, env, output, json } = context;
    const { fsck, isAllWell } = await import('../large-files-library.ts');
    const signal = context.interruptible();
    let progress: Progress | undefined;
    let report: FsckReport;
    try {
      report = await fsck({
        cwd,
        env,
        quick: options.quick,
        repair: options.repair,
        remote: options.remote,
        mayPrompt: env.GIT_TERMINAL_PROMPT !== '0',
        signal,
        onProgress: (event) => {
          if (event.kind === 'start') progress = output.progress('checking', 'bytes', event.totalBytes);
          else progress?.advance(event.bytes);
        },
        warn: (message) => output.warn(message),
      });
    } finally {
      progress?.finish();
    }
    describe(report, context);
    const ok = isAllWell(report);
    if (json) output.json(documentOf(report, ok));
    return ok ? EXIT_OK : EXIT_FALSE;
  },
});

function describe(report: FsckReport, { output }: CommandContext): void {
  const { checked, damage, lost, repair } = report;
  // Before a repair everything is an error; afterwards only what stays.
  const tell = (line: string) => (repair === undefined ? output.error(line) : output.note(line));
  for (const one of damage) tell(damageText(one));
  for (const file of repair?.healed ?? []) output.note(`healed: ${nameOf(file)}`);
  for (const file of lost) output.error(lossText(file));
  for (const { place, provedAt, ...file } of report.elsewhere)
    output.detail(`not here: ${nameOf(file)}: ${place} held it on ${provedAt.toISOString()}`);
  for (const one of repair?.remaining ?? []) output.error(`left as it is, in use: ${damageText(one)}`);
  for (const { commonDir, reason } of report.unreadable) {
    output.warn(
      `${commonDir} uses this store and was not checked: ${reason}; if it is gone for good: git2db xet gc --forget ${commonDir}`,
    );
  }
  for (const name of report.missingShards)
    output.detail(`shard ${name} is gone, though the catalog knows of it`);
  for (const path of report.strays) output.detail(`${path} is no part of a store`);
  if (report.unreferenced.length > 0) {
    const line = `${count(report.unreferenced.length, 'stored file', 'stored files')} that no pointer names cannot be given back`;
    if (report.unreadable.length > 0) output.error(line);
    else output.detail(line);
  }
  if (report.undescribed.length > 0)
    output.detail(`${count(report.undescribed.length, 'xorb', 'xorbs')} described by no shard`);
  if (report.absentObjects > 0) {
    output.note(
      `a partial clone lacks ${count(report.absentObjects, 'object', 'objects')}: pointers below them were not seen`,
    );
  }
  if (repair !== undefined && repair.quarantined.length > 0) {
    output.note(`put aside in ${report.store}/quarantine: ${repair.quarantined.join(', ')}`);
  }
  describeElsewhere(report, output);
  const what = `${count(checked.pointers, 'pointer', 'pointers')}, ${count(checked.xorbs, 'xorb', 'xorbs')}, ${formatBytes(checked.bytes)}`;
  output.note(`checked ${what}: ${verdict(report)}`);
}

function describeElsewhere({ elsewhere }: FsckReport, output: CommandContext['output']): void {
  if (elsewhere.length === 0) return;
  const places = [...new Set(elsewhere.map(({ place }) => place))];
  const bytes = elsewhere.reduce((sum, { size }) => sum + size, 0);
  output.note(
    `not here, but in ${places.join(', ')}: ${count(elsewhere.length, 'file', 'files')}, ${formatBytes(bytes)}`,
  );
}

function verdict({ damage, lost, repair }: FsckReport): string {
  if (repair !== undefined) {
    if (damage.length + lost.length + repair.healed.length === 0) return 'nothing to mend';
    return `${repair.healed.length} healed, ${lost.length} lost`;
  }
  if (damage.length + lost.length === 0) return 'all is well';
  return `${count(damage.length, 'damage', 'damages')}, ${lost.length} lost; "git2db xet fsck --repair" mends what can be mended`;
}

function damageText({ object, name, path, chunk, offset, expected, found }: Damage): string {
  const place = [
    chunk === undefined ? '' : `chunk ${chunk}`,
    offset === undefined ? '' : `offset ${offset}`,
  ].filter(Boolean);
  const where = [`${object} ${name}`, ...place].join(', ');
  return `${where}: expected ${expected}, found ${found} (${path})`;
}

function lossText(file: LostFile): string {
  const [first, ...more] = file.faults;
  const others =
    more.length === 0 ? '' : ` and ${more.length}${more.length === 15 ? ' or more' : ''} other places`;
  return `lost: ${nameOf(file)}: ${first === undefined ? file.state : faultText(first)}${others}`;
}

function faultText({ fileOffset, xorb, chunk, chunkEnd, offset, expected, found }: FileFault): string {
  const chunks =
    chunk === undefined
      ? ''
      : chunkEnd === chunk + 1
        ? `chunk ${chunk}`
        : `chunks ${chunk} to ${(chunkEnd ?? chunk) - 1}`;
  const parts = [
    fileOffset === undefined ? '' : `at byte ${fileOffset}`,
    xorb === undefined ? '' : `xorb ${xorb}`,
    chunks,
    offset === undefined ? '' : `offset ${offset}`,
  ].filter(Boolean);
  return `${parts.join(', ')}${parts.length > 0 ? ': ' : ''}expected ${expected}, found: ${found}`;
}

function nameOf({
  path,
  commit,
  size,
  repository,
  fileHash,
}: Omit<ElsewhereFile, 'place' | 'provedAt'>): string {
  const named = path.length === 0 ? `file ${fileHash}` : quotePath(path);
  return `${named} (${formatBytes(size)}, ${commit === undefined ? 'staged' : `commit ${commit}`}, ${repository})`;
}

function documentOf(report: FsckReport, ok: boolean): unknown {
  const { repair } = report;
  return {
    ok,
    ...report,
    damage: report.damage.map(damageDocument),
    lost: report.lost.map(lossDocument),
    elsewhere: report.elsewhere.map(({ commit, path, provedAt, ...file }) => ({
      ...file,
      commit: commit ?? null,
      ...pathDocument(path),
      provedAt: provedAt.toISOString(),
    })),
    repair:
      repair === undefined
        ? null
        : {
            quarantined: repair.quarantined,
            rebuilt: repair.rebuilt,
            mended: [...repair.mended],
            healed: repair.healed.map(lossDocument),
            remaining: repair.remaining.map(damageDocument),
          },
  };
}

function damageDocument({ object, name, path, chunk, offset, expected, found }: Damage): unknown {
  return { object, name, path, chunk: chunk ?? null, offset: offset ?? null, expected, found };
}

function lossDocument({ repository, commit, path, oid, fileHash, size, state, faults }: LostFile): unknown {
  return {
    repository,
    commit: commit ?? null,
    ...pathDocument(path),
    oid,
    fileHash,
    size,
    state,
    faults: faults.map(({ fileOffset, xorb, chunk, chunkEnd, offset, expected, found }) => ({
      fileOffset: fileOffset ?? null,
      xorb: xorb ?? null,
      chunk: chunk ?? null,
      chunkEnd: chunkEnd ?? null,
      offset: offset ?? null,
      expected,
      found,
    })),
  };
}
