/** `filter=lfs`: whether the driver that `git2db xet install --lfs` set up is still the one that git uses. */
import { basename } from 'node:path';
import { parseBool } from '../git/config.ts';
import { type Fault, fault } from './doctor-fault.ts';
import { findProgram } from './install.ts';
import { LFS_FILTER_PROGRAM } from './lfs-install.ts';

interface ScopedValue {
  readonly scope: string;
  readonly key: string;
  readonly value: string | undefined;
}

/** `values`: of `filter.lfs.*` and `git2db.replaced.*`, in order of rising precedence. */
export function checkLfsDriver(values: readonly ScopedValue[], searchPath: string): Fault[] {
  const processes = values.filter(({ key }) => key === 'filter.lfs.process');
  const ours = processes.findLast(({ value }) => isOurs(value));
  const remembered = values.find(({ key }) => key.startsWith('git2db.replaced.filter.lfs.'));
  const last = processes.at(-1);
  if (ours === undefined && remembered === undefined) return [];
  if (last === undefined || !isOurs(last.value)) {
    const scope = last?.scope ?? ours?.scope ?? remembered?.scope ?? 'global';
    const found =
      last === undefined ? 'it is not set' : `it is ${JSON.stringify(last.value ?? '')} (${last.scope})`;
    const message = `git2db was installed for filter=lfs, but filter.lfs.process is not ${LFS_FILTER_PROGRAM} any more: ${found}`;
    return [fault('warning', 'lfs-driver-taken-over', message, reinstall(scope))];
  }
  const faults: Fault[] = [];
  const required = values.findLast(({ key }) => key === 'filter.lfs.required');
  if (required === undefined || parseBool(required.value) !== true) {
    const message =
      'filter.lfs.required is not true: when the filter fails, git silently stores whole contents, or leaves pointers';
    faults.push(fault('error', 'lfs-filter-not-required', message, reinstall(last.scope)));
  }
  const command = last.value as string;
  if (!command.includes('/') && findProgram(command, searchPath) === undefined) {
    const message = `${command} is not on PATH: git will fail on files with filter=lfs`;
    faults.push(fault('error', 'lfs-filter-not-on-path', message, ['npm install --global git2db']));
  }
  return faults;
}

function isOurs(command: string | undefined): boolean {
  return command !== undefined && basename(command).replace(/\.js$/, '') === LFS_FILTER_PROGRAM;
}

function reinstall(scope: string): string[] {
  return scope === 'command'
    ? ['unset GIT_CONFIG_COUNT GIT_CONFIG_PARAMETERS']
    : [`git2db xet install --${scope} --lfs`];
}
