/** The options that choose one of git's configuration files, as `git config` and git-lfs name them. */
import { type ConfigChange, INSTALL_SCOPES, type InstallScope } from '../large-files/install.ts';
import type { OptionSpec } from './command.ts';

const MEANING: Readonly<Record<InstallScope, string>> = {
  local: 'This repository only',
  global: 'You, in every repository (the default)',
  system: 'Every user of this machine',
  worktree: 'This work tree only (needs extensions.worktreeConfig)',
};

function scopeOption(scope: InstallScope): OptionSpec & { readonly type: 'boolean' } {
  return {
    type: 'boolean',
    describe: MEANING[scope],
    conflicts: INSTALL_SCOPES.filter((other) => other !== scope),
  };
}

export const SCOPE_OPTIONS = {
  local: scopeOption('local'),
  global: scopeOption('global'),
  system: scopeOption('system'),
  worktree: scopeOption('worktree'),
} as const;

export function chosenScope(options: Readonly<Record<InstallScope, boolean>>): InstallScope {
  return INSTALL_SCOPES.find((scope) => options[scope]) ?? 'global';
}

export function describeChange({ key, from, to }: ConfigChange): string {
  if (to === undefined) return `removed ${key} = ${from}`;
  return from === undefined ? `set ${key} = ${to}` : `set ${key} = ${to} (was ${from})`;
}
