/** The list of commands, in the order the help shows them. */
import type { Command, CommandGroup } from '../command.ts';
import { completionCommand } from './completion.ts';
import { xetDoctor } from './xet-doctor.ts';
import { xetDu } from './xet-du.ts';
import { xetFsck } from './xet-fsck.ts';
import { xetGc } from './xet-gc.ts';
import { xetHash } from './xet-hash.ts';
import { xetInstall } from './xet-install.ts';
import { xetLsFiles } from './xet-ls-files.ts';
import { xetMigrateInfo, xetMigratePointers } from './xet-migrate.ts';
import { xetPointer } from './xet-pointer.ts';
import { xetCheckout, xetPull } from './xet-pull.ts';
import { xetStatus } from './xet-status.ts';
import { xetTrack } from './xet-track.ts';
import { xetUninstall } from './xet-uninstall.ts';
import { xetUntrack } from './xet-untrack.ts';

export const COMMAND_GROUPS: readonly CommandGroup[] = [
  {
    path: ['xet'],
    summary: 'The large files of the current repository',
    description: `The large files of the current repository: set git up for them, say which files
they are, look at them.`,
  },
  {
    path: ['xet', 'migrate'],
    summary: 'Repositories that were not begun with git2db',
    description: `Repositories that were not begun with git2db: find what git holds whole, convert
pointers of other Xet programs. History is not rewritten.`,
  },
];

export const COMMANDS: readonly Command[] = [
  xetInstall,
  xetUninstall,
  xetTrack,
  xetUntrack,
  xetLsFiles,
  xetStatus,
  xetPull,
  xetCheckout,
  xetFsck,
  xetDoctor,
  xetDu,
  xetMigrateInfo,
  xetMigratePointers,
  xetGc,
  xetPointer,
  xetHash,
  completionCommand(() => COMMANDS, COMMAND_GROUPS),
];
