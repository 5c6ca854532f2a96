/** The list of commands, in the order the help shows them. */
import type { Command, CommandGroup } from '../command.ts';
import { blameCommand } from './blame.ts';
import { branchCommands } from './branch.ts';
import { cloneCommand } from './clone.ts';
import { commitCommand } from './commit.ts';
import { completionCommand } from './completion.ts';
import { configCommand } from './config.ts';
import { diffCommand } from './diff.ts';
import { doctorCommand } from './doctor.ts';
import { duCommand } from './du.ts';
import { initCommand } from './init.ts';
import { listCommand, showCommand } from './list.ts';
import { logCommand } from './log.ts';
import { manCommand } from './man.ts';
import { mergeCommand } from './merge.ts';
import { networkCommands } from './network.ts';
import { pickCommands } from './pick.ts';
import { rebaseCommand } from './rebase.ts';
import { registerCommand } from './register.ts';
import { remoteCommands } from './remote.ts';
import { removeCommand } from './remove.ts';
import { serveCommands } from './serve.ts';
import { stagingCommands } from './staging.ts';
import { stashCommands } from './stash.ts';
import { statusCommand } from './status.ts';
import { tagCommands } from './tag.ts';
import { updateCommand } from './update.ts';
import { repairCommand, verifyCommand } from './verify.ts';
import { watchCommand } from './watch.ts';
import { worktreeCommands } from './worktree.ts';
import { xetDoctor } from './xet-doctor.ts';
import { xetDu } from './xet-du.ts';
import { xetEvict } from './xet-evict.ts';
import { xetFetch } from './xet-fetch.ts';
import { xetFsck } from './xet-fsck.ts';
import { xetGc } from './xet-gc.ts';
import { xetHash } from './xet-hash.ts';
import { xetHookCommands } from './xet-hook.ts';
import { xetInstall } from './xet-install.ts';
import { xetLsFiles } from './xet-ls-files.ts';
import { xetMigrateInfo, xetMigrateLfs, xetMigratePointers, xetMigrateToLfs } from './xet-migrate.ts';
import { xetPointer } from './xet-pointer.ts';
import { xetCheckout, xetPull } from './xet-pull.ts';
import { xetPush } from './xet-push.ts';
import { xetStatus } from './xet-status.ts';
import { xetTrack } from './xet-track.ts';
import { xetTrust } from './xet-trust.ts';
import { xetUninstall } from './xet-uninstall.ts';
import { xetUntrack } from './xet-untrack.ts';

/** The program itself. */
export const ROOT: CommandGroup = {
  path: [],
  summary: 'Huge files in plain git, and many repositories in one registry',
  description: `Huge files in plain git: contents are cut into chunks, deduplicated and stored once; git itself
keeps a pointer of under 200 bytes. "git2db xet install" and "git2db xet track" begin that in
one repository.

A registry holds many repositories in one directory, finds them by name, id or URL, and makes a
worktree of any commit in a blink. "git2db init", "git2db clone URL" and "git2db worktree add
NAME BRANCH" begin that. Its commands take the repository as their first operand, where "." is
that of the current directory.`,
};

export const COMMAND_GROUPS: readonly CommandGroup[] = [
  {
    path: ['branch'],
    summary: 'Branches of a repository',
    description: 'Branches of a repository: list, make, check out, compare.',
  },
  {
    path: ['tag'],
    summary: 'Tags of a repository',
    description: 'Tags of a repository: light, annotated and signed ones.',
  },
  {
    path: ['stash'],
    summary: 'Local changes put aside',
    description: 'Puts local changes aside, and brings them back.',
  },
  {
    path: ['remote'],
    summary: 'Remotes of a repository',
    description: 'Remotes of a repository. "git2db fetch", "pull" and "push" talk to them.',
  },
  {
    path: ['worktree'],
    summary: 'Worktrees of a repository',
    description: `Worktrees of a repository: further work trees, each on a branch or commit of its own, that
share what they have in common.`,
  },
  {
    path: ['xet'],
    summary: 'The large files of the current repository',
    description: `The large files of the current repository: set git up for them, say which files
they are, look at them.`,
  },
  {
    path: ['xet', 'hook'],
    summary: 'What git and the filter run, not people',
    description: 'Commands that git and the filter run: hooks, and fetching for a checkout.',
  },
  {
    path: ['xet', 'migrate'],
    summary: 'Repositories that were not begun with git2db',
    description: `Repositories that were not begun with git2db: find what git holds whole, convert
pointers of other Xet programs. History is not rewritten.`,
  },
];

export const COMMANDS: readonly Command[] = [
  initCommand,
  cloneCommand,
  registerCommand,
  listCommand,
  showCommand,
  updateCommand,
  removeCommand,
  verifyCommand,
  repairCommand,
  watchCommand,
  statusCommand,
  logCommand,
  diffCommand,
  blameCommand,
  ...stagingCommands,
  commitCommand,
  mergeCommand,
  rebaseCommand,
  ...pickCommands,
  ...networkCommands,
  ...branchCommands,
  ...tagCommands,
  ...stashCommands,
  ...remoteCommands,
  ...worktreeCommands,
  duCommand,
  doctorCommand,
  configCommand,
  xetInstall,
  xetUninstall,
  xetTrack,
  xetUntrack,
  xetLsFiles,
  xetStatus,
  xetPull,
  xetCheckout,
  xetFetch,
  xetPush,
  xetEvict,
  xetTrust,
  xetFsck,
  xetDoctor,
  xetDu,
  xetMigrateInfo,
  xetMigrateLfs,
  xetMigratePointers,
  xetMigrateToLfs,
  xetGc,
  xetPointer,
  xetHash,
  ...xetHookCommands,
  ...serveCommands,
  completionCommand(() => COMMANDS, COMMAND_GROUPS),
  manCommand(ROOT, () => COMMANDS, COMMAND_GROUPS),
];
