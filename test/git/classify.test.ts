import test from 'ava';
import fc from 'fast-check';
import { textWords } from '../../src/git/byte-words.ts';
import { classified, classify } from '../../src/git/classify.ts';
import { unquotePath } from '../../src/git/quoted-path.ts';
import {
  checkFullRefName,
  checkRemoteName,
  checkRevision,
  fullRefName,
  whyNoRefName,
} from '../../src/git/ref-name.ts';
import { git } from '../../src/git/runner.ts';
import { checkPath } from '../../src/git/tree-path.ts';
import { type ErrorCode, Git2dbError } from '../../src/xet/errors.ts';
import { createSandbox, isolateProcess } from '../helpers/git-sandbox.ts';

isolateProcess();

/** Texts of git 2.30 to 2.5x, and of the programs it starts. */
const TEXTS: readonly [ErrorCode | undefined, string][] = [
  ['NOT_A_REPOSITORY', 'fatal: not a git repository (or any of the parent directories): .git'],
  ['OWNER_DUBIOUS', "fatal: detected dubious ownership in repository at '/x'"],
  ['OWNER_DUBIOUS', "fatal: unsafe repository ('/x' is owned by someone else)"],
  ['AUTH_FAILED', "fatal: Authentication failed for 'https://example.invalid/x/'"],
  ['AUTH_FAILED', "fatal: could not read Username for 'https://example.invalid': terminal prompts disabled"],
  [
    'AUTH_FAILED',
    'git@example.invalid: Permission denied (publickey,password).\nfatal: Could not read from remote repository.',
  ],
  [
    'AUTH_FAILED',
    "fatal: unable to access 'https://example.invalid/x/': The requested URL returned error: 403",
  ],
  ['AUTH_FAILED', 'Host key verification failed.\nfatal: Could not read from remote repository.'],
  ['NETWORK', "fatal: unable to access 'https://example.invalid/': Could not resolve host: example.invalid"],
  [
    'NETWORK',
    'ssh: Could not resolve hostname example.invalid: Name or service not known\nfatal: Could not read from remote repository.',
  ],
  [
    'NETWORK',
    "fatal: unable to access 'http://127.0.0.1:1/': Failed to connect to 127.0.0.1 port 1 after 0 ms: Couldn't connect to server",
  ],
  [
    'NETWORK',
    'error: RPC failed; curl 18 transfer closed with outstanding read data remaining\nfatal: early EOF',
  ],
  ['NETWORK', "fatal: unable to access 'https://x/': SSL certificate problem: self-signed certificate"],
  ['NETWORK', "fatal: unable to access 'https://x/': The requested URL returned error: 503"],
  ['NOT_FOUND', "remote: Repository not found.\nfatal: repository 'https://example.invalid/x/' not found"],
  [
    'NOT_FOUND',
    "fatal: '/nowhere' does not appear to be a git repository\nfatal: Could not read from remote repository.",
  ],
  ['NOT_FOUND', "error: No such remote 'x'"],
  ['URL_INVALID', "fatal: transport 'ext' not allowed"],
  ['URL_INVALID', "git: 'remote-gopher' is not a git command. See 'git --help'."],
  [
    'INDEX_LOCKED',
    "fatal: Unable to create '/x/.git/index.lock': File exists.\n\nAnother git process seems to be running",
  ],
  ['CONFLICT', "fatal: cannot lock ref 'refs/heads/a': is at 1111111 but expected 2222222"],
  [
    'CONFLICT',
    "fatal: cannot lock ref 'refs/heads/a': Unable to create '/x/.git/refs/heads/a.lock': File exists.",
  ],
  [
    'REF_EXISTS',
    "fatal: cannot lock ref 'refs/heads/a/b': 'refs/heads/a' exists; cannot create 'refs/heads/a/b'",
  ],
  ['REF_EXISTS', "fatal: A branch named 'a' already exists."],
  ['REF_EXISTS', "fatal: a branch named 'a' already exists"],
  ['REF_EXISTS', "fatal: tag 'a' already exists"],
  ['REF_EXISTS', 'error: remote origin already exists.'],
  ['REF_INVALID', "fatal: ambiguous argument 'x': unknown revision or path not in the working tree."],
  ['REF_INVALID', 'fatal: Not a valid object name x'],
  ['REF_INVALID', "fatal: couldn't find remote ref x"],
  ['REF_INVALID', 'error: src refspec x does not match any'],
  ['REF_INVALID', "error: branch 'x' not found."],
  ['REF_INVALID', "error: branch 'x' not found"],
  ['BRANCH_IN_USE', "fatal: 'a' is already checked out at '/x'"],
  ['BRANCH_IN_USE', "fatal: 'a' is already used by worktree at '/x'"],
  ['BRANCH_IN_USE', "error: Cannot delete branch 'a' checked out at '/x'"],
  ['BRANCH_IN_USE', "error: cannot delete branch 'a' used by worktree at '/x'"],
  ['NOT_MERGED', "error: The branch 'a' is not fully merged."],
  ['NOT_MERGED', "error: the branch 'a' is not fully merged"],
  ['WORKTREE_DIRTY', 'error: Your local changes to the following files would be overwritten by merge:\n\ta'],
  [
    'WORKTREE_DIRTY',
    'error: The following untracked working tree files would be overwritten by checkout:\n\ta',
  ],
  ['WORKTREE_DIRTY', 'error: cannot rebase: You have unstaged changes.'],
  ['WORKTREE_DIRTY', "error: Entry 'a' not uptodate. Cannot merge."],
  ['WORKTREE_DIRTY', 'error: the following file has local modifications:\n    a'],
  ['MERGE_CONFLICT', 'error: Committing is not possible because you have unmerged files.'],
  [
    'MERGE_CONFLICT',
    'CONFLICT (content): Merge conflict in a\nAutomatic merge failed; fix conflicts and then commit the result.',
  ],
  ['OPERATION_IN_PROGRESS', 'fatal: You have not concluded your merge (MERGE_HEAD exists).'],
  ['OPERATION_IN_PROGRESS', 'error: a cherry-pick or revert is already in progress'],
  ['OPERATION_IN_PROGRESS', 'fatal: It seems that there is already a rebase-merge directory, and'],
  ['NO_OPERATION', 'fatal: There is no merge to abort (MERGE_HEAD missing).'],
  ['NO_OPERATION', 'fatal: No rebase in progress?'],
  ['NO_OPERATION', 'fatal: no rebase in progress'],
  ['NO_OPERATION', 'error: no cherry-pick or revert in progress'],
  ['NOT_FAST_FORWARD', 'fatal: Not possible to fast-forward, aborting.'],
  ['NOT_FAST_FORWARD', "hint: Diverging branches can't be fast-forwarded, you need to either:"],
  ['HISTORIES_UNRELATED', 'fatal: refusing to merge unrelated histories'],
  ['NOTHING_TO_COMMIT', 'nothing to commit, working tree clean'],
  ['NOTHING_TO_COMMIT', 'nothing added to commit but untracked files present'],
  ['NOTHING_TO_COMMIT', 'The previous cherry-pick is now empty, possibly due to conflict resolution.'],
  ['IDENTITY_UNKNOWN', 'Author identity unknown\n\n*** Please tell me who you are.'],
  ['IDENTITY_UNKNOWN', 'fatal: no email was given and auto-detection is disabled'],
  ['SIGNING_FAILED', 'error: gpg failed to sign the data\nfatal: failed to write commit object'],
  ['PATH_INVALID', "fatal: pathspec 'x' did not match any files"],
  ['PATH_INVALID', "fatal: '/x' is outside repository at '/y'"],
  ['PATH_INVALID', "fatal: pathspec 'a/b' is beyond a symbolic link"],
  ['OBJECT_MISSING', 'fatal: loose object 1111 (stored in .git/objects/11/11) is corrupt'],
  ['DISK_FULL', 'fatal: write error: No space left on device'],
  ['DISK_FULL', "fatal: sha1 file '/r/.git/index.lock' write error. Out of diskspace"],
  ['HOOK_FAILED', ' ! [remote rejected] main -> main (pre-receive hook declined)'],
  [undefined, 'fatal: something that was never seen'],
  [undefined, ''],
];

for (const [code, text] of TEXTS) {
  test(`${JSON.stringify(text.slice(0, 90))} is ${code ?? 'nothing known'}`, (t) => {
    t.is(classify(text), code);
  });
}

test('a classified error keeps message and data, and has the first one as its cause', (t) => {
  const failed = new Git2dbError('GIT_FAILED', 'git x failed', {
    data: { stderr: 'fatal: bad revision', args: ['x'] },
  });
  const known = classified(failed) as Git2dbError;
  t.like(known, { code: 'REF_INVALID', message: 'git x failed', cause: failed });
  t.is(known.data, failed.data);
  const other = new Error('x');
  t.is(classified(other), other);
  const unknown = new Git2dbError('GIT_FAILED', 'x', { data: { stderr: '?' } });
  t.is(classified(unknown), unknown);
});

test('names of refs are those that git check-ref-format takes, but for a leading dash', async (t) => {
  const piece = fc.constantFrom(
    'a',
    'B',
    '/',
    '.',
    '..',
    '-',
    '@',
    '{',
    '@{',
    '~',
    '^',
    ':',
    '?',
    '*',
    '[',
    '\\',
    ' ',
    '\t',
    '\u007f',
    'lock',
    '.lock',
    'é',
    '\u{1F600}',
    '0',
  );
  const names = fc.sample(
    fc.array(piece, { minLength: 1, maxLength: 6 }).map((parts) => parts.join('')),
    { numRuns: 300, seed: 7 },
  );
  const sandbox = createSandbox(t);
  // One process for all: a ref that cannot be is a usage error of the transaction's parser.
  for (const name of new Set(names)) {
    if (name.startsWith('-') || name.includes('\n')) continue;
    const { status } = await git(['check-ref-format', '--allow-onelevel', name], {
      cwd: sandbox.dir,
      okStatus: [0, 1],
    });
    t.is(whyNoRefName(name) === undefined, status === 0, JSON.stringify(name));
  }
  for (const name of ['-x', '--all', '', '@', 'a\0b', 'a\nb', 'a\ufffd'])
    t.not(whyNoRefName(name), undefined, JSON.stringify(name));
});

test('short and full names, revisions and remotes each have their rules', (t) => {
  t.is(fullRefName('branch', 'a/b'), 'refs/heads/a/b');
  t.is(fullRefName('tag', 'v1'), 'refs/tags/v1');
  for (const name of ['HEAD', 'a'.repeat(40).replace(/a/g, 'b'), '-x', 'x'.repeat(251)])
    t.throws(() => fullRefName('branch', name), { code: 'REF_INVALID' });
  for (const name of ['HEAD', 'MERGE_HEAD', 'refs/heads/a', 'refs/x']) t.is(checkFullRefName(name), name);
  for (const name of ['main', 'refs', 'refs/', 'config', 'index', 'objects/x', '../x', 'refs/../config'])
    t.throws(() => checkFullRefName(name), { code: 'REF_INVALID' });
  for (const text of ['HEAD~3^2', 'v1^{commit}', ':/fix', 'main@{yesterday}', 'a:b c'])
    t.is(checkRevision(text), text);
  for (const text of ['-x', '', 'a\0', 'a\nb', 'x'.repeat(5000)])
    t.throws(() => checkRevision(text), { code: 'REF_INVALID' });
  t.is(checkRemoteName('a.b'), 'a.b');
  for (const name of ['-x', 'a b', '../x', 'a..b', ''])
    t.throws(() => checkRemoteName(name), { code: 'NAME_INVALID' });
});

test('paths lead into the work tree, or are refused', (t) => {
  for (const path of ['a', 'a/b', '-x', ' ', 'a\nb', '..a', 'a..', './a', Buffer.of(0xff)])
    t.deepEqual(checkPath(path), Buffer.from(path as string));
  for (const path of ['', '/a', '..', '../a', 'a/..', 'a/../b', 'a\0'])
    t.throws(() => checkPath(path), { code: 'PATH_INVALID' });
});

test('words of a command line may hold any byte but NUL', async (t) => {
  t.deepEqual(textWords(['git', 'a b', Buffer.from('ü')]), ['git', 'a b', 'ü']);
  const sandbox = createSandbox(t);
  await sandbox.git(['init', '-q', '.']);
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ minLength: 1, maxLength: 20 }), async (bytes) => {
      const value = Buffer.from(bytes.map((byte) => byte || 1));
      const { stdout } = await git(
        ['-c', Buffer.concat([Buffer.from('x.y='), value]), 'config', '-z', 'x.y'],
        { cwd: sandbox.dir },
      );
      t.deepEqual(stdout.subarray(0, -1), value);
    }),
    { numRuns: 25, seed: 3 },
  );
});

test('git can be run by way of another command', async (t) => {
  const sandbox = createSandbox(t);
  const { stdout } = await git(['--version'], {
    cwd: sandbox.dir,
    enter: (argv) => ['env', 'MARK=x', ...argv],
  });
  t.regex(stdout.toString(), /^git version/);
  const seen: Buffer[] = [];
  await t.throwsAsync(
    git(['rev-parse', '--verify', 'x'], {
      cwd: sandbox.dir,
      enter: (argv) => ['sh', '-c', '"$0" "$@"', ...argv],
      onStderr: (piece) => seen.push(piece),
    }),
    { code: 'GIT_FAILED' },
  );
  t.regex(Buffer.concat(seen).toString(), /not a git repository/);
});

test('quoted paths are read back', (t) => {
  t.is(unquotePath(Buffer.from('plain "x')).toString(), 'plain "x');
  t.deepEqual(
    unquotePath(Buffer.from('"a\\tb\\n\\"\\\\\\303\\274\\377"')),
    Buffer.concat([Buffer.from('a\tb\n"\\ü'), Buffer.of(0xff)]),
  );
  t.is(unquotePath(Buffer.from('"')).toString(), '"');
});
