import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { COMMANDS } from '../../src/cli/commands/index.ts';
import { SHELLS } from '../../src/cli/completion/script.ts';
import { cli, isolateGit, temporaryFolder } from './run.ts';

isolateGit();

async function scriptFor(shell: string): Promise<string> {
  const { code, stdout, stderr } = await cli(['completion', shell]);
  if (code !== 0 || stderr !== '') throw new Error(`git2db completion ${shell}: ${stderr}`);
  return stdout;
}

for (const shell of SHELLS) {
  const isThere = spawnSync('sh', ['-c', `command -v ${shell}`]).status === 0;
  const run = isThere ? test : test.skip;

  test(`the ${shell} script knows every command and option`, async (t) => {
    const script = await scriptFor(shell);
    for (const { path, options } of COMMANDS) {
      t.true(script.includes(path.at(-1)!), path.join(' '));
      for (const name of Object.keys(options)) t.true(script.includes(name), name);
    }
  });

  run(`${shell} finds no fault with its script${isThere ? '' : ` (no ${shell} here)`}`, async (t) => {
    const file = join(temporaryFolder(t), 'script');
    writeFileSync(file, await scriptFor(shell));
    const { status, stderr } = spawnSync(shell, ['-n', file], { encoding: 'utf8' });
    t.is(stderr, '');
    t.is(status, 0);
  });
}

test('the script comes as JSON too', async (t) => {
  const { stdout } = await cli(['completion', 'fish', '--json']);
  t.deepEqual(JSON.parse(stdout), { shell: 'fish', script: (await scriptFor('fish')).replace(/\n$/, '') });
});

const hasBash = spawnSync('bash', ['--version']).status === 0;

const completes = test.macro({
  async exec(t, words: string[], expected: string[]) {
    const folder = temporaryFolder(t);
    writeFileSync(join(folder, 'script'), await scriptFor('bash'));
    writeFileSync(join(folder, 'model.bin'), '');
    const line = words.map((word) => `'${word}'`).join(' ');
    const program = `source ./script; COMP_WORDS=(${line}); COMP_CWORD=${words.length - 1}; _git2db; printf '%s\\n' "\${COMPREPLY[@]}"`;
    const { stdout, stderr } = spawnSync('bash', ['--norc', '-c', program], {
      cwd: folder,
      encoding: 'utf8',
    });
    t.is(stderr, '');
    const found = stdout.split('\n').filter(Boolean);
    for (const word of expected) t.true(found.includes(word), `${word} is not in ${found.join(' ')}`);
    if (words.at(-1) !== '') t.deepEqual(found.sort(), [...expected].sort());
  },
  title: (_, words: string[]) => `bash completes '${words.join(' ')}'`,
});

const bash = hasBash ? test : test.skip;
bash(completes, ['git2db', ''], ['xet', 'completion']);
bash(completes, ['git2db', 'xet', 'inst'], ['install']);
bash(completes, ['git2db', 'xet', 'install', '--f'], ['--force']);
bash(completes, ['git2db', 'xet', 'hash', '--json', 'mod'], ['model.bin']);
bash(completes, ['git2db', 'completion', 'z'], ['zsh']);
bash(completes, ['git2db', 'worktree', 'a'], ['add']);
bash(completes, ['git2db', 'worktree', 'add', '--registry', 'somewhere', '--dr'], ['--driver']);
bash(completes, ['git2db', 'worktree', 'add', 'x', 'main', '--driver', 'over'], ['overlay2']);
bash(completes, ['git2db', 'worktree', 'add', 'x', 'main', '--driver', '=', 'v'], ['vfs']);

/** A program of this name that lists names as ours does, and notes what it was asked. */
function fakeProgram(folder: string): NodeJS.ProcessEnv {
  const file = join(folder, 'git2db');
  const script = `#!/bin/sh
echo "$*" >> '${folder}/asked'
case "$1 $2" in
  'list --names') printf 'org/model\\nother\\n' ;;
  'branch list') printf 'main\\nmatter\\nma$(touch\${IFS}pwned)\\n' ;;
  'worktree list') printf 'try\\n' ;;
esac
`;
  writeFileSync(file, script, { mode: 0o755 });
  return { ...process.env, PATH: `${folder}:${process.env.PATH}` };
}

bash(
  'bash asks the program for names, with the repository that was typed, and expands none of them',
  async (t) => {
    const folder = temporaryFolder(t);
    const env = fakeProgram(folder);
    writeFileSync(join(folder, 'script'), await scriptFor('bash'));
    const complete = (...words: string[]) => {
      const line = words.map((word) => `'${word}'`).join(' ');
      const program = `source ./script; COMP_WORDS=(${line}); COMP_CWORD=${words.length - 1}; _git2db; printf '%s\\n' "\${COMPREPLY[@]}"`;
      const { stdout, stderr } = spawnSync('bash', ['--norc', '-c', program], {
        cwd: folder,
        env,
        encoding: 'utf8',
      });
      t.is(stderr, '');
      return stdout.split('\n').filter(Boolean);
    };
    t.deepEqual(complete('git2db', 'show', 'o'), ['org/model', 'other']);
    t.deepEqual(complete('git2db', 'show', 'org/model', ''), []);
    t.deepEqual(complete('git2db', 'worktree', 'add', '--registry', 'r', 'org/model', 'mai'), ['main']);
    t.is(complete('git2db', 'merge', 'org/model', 'x', 'ma').length, 3);
    t.deepEqual(complete('git2db', 'status', 'org/model', '--worktree', 't'), ['try']);
    t.false(existsSync(join(folder, 'pwned')));
    t.deepEqual(readFileSync(join(folder, 'asked'), 'utf8').trimEnd().split('\n'), [
      'list --names',
      'branch list org/model --all --names --registry r',
      'branch list org/model --all --names',
      'worktree list org/model --names',
    ]);
  },
);

const hasFish = spawnSync('fish', ['--version']).status === 0;

(hasFish ? test : test.skip)(
  `fish completes words and options${hasFish ? '' : ' (no fish here)'}`,
  async (t) => {
    const file = join(temporaryFolder(t), 'script');
    writeFileSync(file, await scriptFor('fish'));
    const complete = (line: string, env = process.env) => {
      const { stdout, stderr } = spawnSync('fish', ['-c', `source ${file}; complete -C '${line}'`], {
        encoding: 'utf8',
        env,
      });
      t.is(stderr, '');
      return stdout
        .split('\n')
        .filter(Boolean)
        .map((found) => found.split('\t')[0]);
    };
    t.deepEqual(complete('git2db co'), ['commit', 'completion', 'config']);
    t.deepEqual(complete('git2db xet inst'), ['install']);
    t.deepEqual(complete('git2db xet install --f'), ['--force']);
    t.deepEqual(complete('git2db completion '), ['bash', 'fish', 'zsh']);
    const env = fakeProgram(temporaryFolder(t));
    const named = (line: string) => complete(line, env);
    t.deepEqual(named('git2db show o'), ['org/model', 'other']);
    t.deepEqual(named('git2db worktree add --registry r org/model mai'), ['main']);
    t.deepEqual(named('git2db worktree add org/model main --driver v'), ['vfs']);
    t.deepEqual(named('git2db status org/model --worktree t'), ['try']);
  },
);
