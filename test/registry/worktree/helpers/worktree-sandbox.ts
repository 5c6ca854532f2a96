/**
 * A repository, a home for worktrees, and agents that work on them by root or by an ordinary user. All that
 * was mounted in it is unmounted when the test ends.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { ExecutionContext } from 'ava';
import type { WorktreeHome, WorktreeSpec } from '../../../../src/registry/worktree/index.ts';
import {
  createSandbox,
  type RunResult,
  type Sandbox,
  type SandboxOptions,
} from '../../../helpers/git-sandbox.ts';
import { openDevFuse } from '../../../mount-helper/helpers/dev-fuse.ts';
import { type Subject, type SubjectName, subjectNamed } from '../../../mount-helper/helpers/subjects.ts';
import type { Request, Summary } from './agent.ts';

const AGENT = fileURLToPath(new URL('./agent.js', import.meta.url));

export interface AgentError extends Error {
  readonly code: string | undefined;
  readonly data: Readonly<Record<string, unknown>>;
}

/** A process that does what it is asked, one thing after the other. */
export class Agent {
  readonly process: ChildProcess;
  readonly #replies: AsyncIterator<string>;
  readonly #base: Pick<Request, 'repo' | 'home'>;

  constructor(process: ChildProcess, base: Pick<Request, 'repo' | 'home'>) {
    this.process = process;
    this.#base = base;
    this.#replies = createInterface({ input: process.stdout! })[Symbol.asyncIterator]();
  }

  /** Throws an AgentError for a refusal. */
  async ask<T>(op: Request['op'], rest: Omit<Request, 'op' | 'repo' | 'home'> = {}): Promise<T> {
    this.process.stdin!.write(`${JSON.stringify({ ...this.#base, op, ...rest })}\n`);
    const { value, done } = await this.#replies.next();
    if (done === true) throw new Error(`the agent has ended while it was asked to ${op}`);
    const reply = JSON.parse(value) as { value?: T; error?: { message: string } };
    if (reply.error !== undefined) throw Object.assign(new Error(reply.error.message), reply.error);
    return reply.value as T;
  }

  create(spec: WorktreeSpec): Promise<Summary> {
    return this.ask('create', { spec });
  }

  remove(name: string, force = false): Promise<void> {
    return this.ask('remove', { name, force });
  }
}

export interface WorktreeSandbox extends Omit<Sandbox, 'home'> {
  readonly subject: Subject;
  readonly repo: string;
  readonly home: WorktreeHome;
  agent(home?: WorktreeHome): Agent;
  /** As the subject's user. */
  as(command: string, ...args: readonly string[]): Promise<RunResult>;
  /** stdout of git, as the subject's user. */
  gitIn(dir: string, ...args: readonly string[]): Promise<string>;
  /** Unmounts everything below, as a reboot would. */
  reboot(): void;
}

/** A repository `repo` with whatever `fill` makes in it. */
export async function createWorktreeSandbox(
  t: ExecutionContext,
  name: SubjectName,
  fill: (sandbox: Sandbox, repo: string) => Promise<void> = fillOrdinary,
  options: SandboxOptions = {},
): Promise<WorktreeSandbox> {
  const subject = subjectNamed(name);
  if (subject.backend.startsWith('fuse') && !subject.isRoot) await openDevFuse();
  const sandbox = createSandbox(t, {
    ...options,
    config: { 'safe.directory': '*', 'gc.reflogExpire': 'never', ...options.config },
  });
  const root = dirname(sandbox.dir);
  const repo = sandbox.path('repo');
  const home: WorktreeHome = {
    worktrees: sandbox.path('home', 'worktrees'),
    layers: sandbox.path('home', 'layers'),
    store: undefined,
  };
  const reboot = () => {
    for (const mounted of mountsBelow(root)) execFileSync('umount', ['--lazy', mounted]);
  };
  t.teardown(reboot);
  await sandbox.git(['init', '-q', repo]);
  await fill(sandbox, repo);
  chmodSync(root, 0o755);
  if (subject.prefix.length > 0) execFileSync('chown', ['-R', `${subject.uid}:${subject.gid}`, root]);
  const env = { ...sandbox.env, XDG_RUNTIME_DIR: `${root}/run`, XDG_STATE_HOME: `${root}/home/state` };
  const as = (command: string, ...args: readonly string[]) => {
    const [file, ...words] = [...subject.prefix, command, ...args];
    return sandbox.runOk(file!, words, { env });
  };
  return {
    ...sandbox,
    subject,
    repo,
    home,
    agent(where = home) {
      const [file, ...words] = [...subject.prefix, process.execPath, AGENT];
      const child = spawn(file!, words, { env, cwd: root, stdio: ['pipe', 'pipe', 'inherit'] });
      t.teardown(async () => {
        // It may be in the middle of something that waits for the test.
        child.kill('SIGKILL');
        if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
      });
      return new Agent(child, { repo, home: where });
    },
    as,
    async gitIn(dir, ...args) {
      return (await as('git', '-C', dir, ...args)).stdout.replace(/\n$/, '');
    },
    reboot,
  };
}

/** The last mounted first. */
export function mountsBelow(root: string): string[] {
  const table = readFileSync('/proc/self/mountinfo', 'latin1');
  const points = table.split('\n').map((line) => line.split(' ', 5)[4] ?? '');
  return points.filter((point) => point.startsWith(`${root}/`)).reverse();
}

/** Some commits, a tag, branches with slashes, files of every kind that git has. */
export async function fillOrdinary(sandbox: Sandbox, repo: string): Promise<void> {
  const git = (...args: string[]) => sandbox.git(['-C', repo, ...args]);
  for (let i = 0; i < 5; i++) {
    sandbox.write(`repo/file${i}.txt`, `content ${i}\n`);
    sandbox.write(`repo/deep/er/number${i}`, `${i}`.repeat(1000 + i));
    sandbox.write('repo/changes', `version ${i}\n`);
    if (i === 1) sandbox.write('repo/goes', 'away\n');
    if (i === 2) await git('rm', '-q', 'goes');
    await git('add', '-A');
    await git('commit', '-q', '-m', `commit ${i}`);
  }
  await sandbox.runOk('sh', [
    '-c',
    `cd "$0" && printf '#!/bin/sh\\necho hi\\n' > run.sh && chmod +x run.sh && ln -s file1.txt link && ` +
      `mkdir -p 'a b/ü' && echo x > 'a b/ü/.wh.x' && printf 'a\\n' > "$(printf 'new\\nline')"`,
    repo,
  ]);
  await git('add', '-A');
  await git('commit', '-q', '-m', 'kinds');
  await git('tag', '-a', '-m', 'tagged', 'v1', 'main~2');
  await git('branch', 'feature/x', 'main~1');
  await git('branch', 'other/x', 'main~2');
}

/** Path, mode and SHA-256 of every file but `.git`, as the subject's user sees it. */
export async function contentsOf(sandbox: WorktreeSandbox, dir: string): Promise<string> {
  const script =
    'cd "$0" && find . -name .git -prune -o -type f -printf "%m %p\\0" | sort -z | tr "\\0" "\\n" && ' +
    'find . -name .git -prune -o -type l -printf "%p -> %l\\n" | sort && ' +
    'find . -name .git -prune -o -type d -printf "%p/\\n" | sort && ' +
    'find . -name .git -prune -o -type f -print0 | sort -z | xargs -0 sha256sum';
  return (await sandbox.as('sh', '-c', script, dir)).stdout;
}
