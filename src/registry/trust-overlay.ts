/**
 * What is laid over an untrusted repository's own configuration, setting by setting: the rules of
 * trust-rules.ts, and those cases in which one key's meaning depends on others.
 */
import { dirname, resolve } from 'node:path';
import { findRepository } from '../git/repository.ts';
import { CONFIG_HOOK_COMMAND, isHookCommand } from '../large-files/hook-files.ts';
import { Git2dbError } from '../xet/errors.ts';
import { filterCommand, filterProgram, lfsFilterCommand } from './filter-program.ts';
import type { ScopedConfig, ScopedEntry } from './scoped-config.ts';
import { type RuleContext, TRUST_RULES } from './trust-rules.ts';

/** One setting for git: `['core.hooksPath', '/dev/null']`. */
export type ConfigPair = readonly [key: string, value: string];

/** The repository, or one of its work trees: absolute paths. */
export interface TrustPlace {
  readonly commonDir: string;
  readonly gitDir: string;
}

/** A setting of the repository that is not in force. */
export interface NeutralizedSetting {
  /** Canonical, as git prints it. */
  readonly key: string;
  /** The file that holds it, as git names it. */
  readonly file: string;
  /** What is in force instead: the user's own value, ours (`filter.xet`), or git's way without the key. */
  readonly instead: 'user' | 'ours' | 'default';
}

export interface TrustSettings {
  /** For GIT_CONFIG_COUNT, in this order. Empty for a trusted repository. */
  readonly config: readonly ConfigPair[];
  /** Environment for the same end, where no setting can be laid over. */
  readonly env: Readonly<Record<string, string>>;
  readonly neutralized: readonly NeutralizedSetting[];
}

/** Off whatever anybody's configuration says. */
const ALWAYS: readonly ConfigPair[] = [
  ['core.hooksPath', '/dev/null'],
  ['core.fsmonitor', 'false'],
];

/**
 * A work tree that the repository names by itself would be written to by every checkout, wherever it is:
 * a home directory, say. It must name the repository in turn, as that of a submodule does.
 */
export function checkWorkTree(scoped: ScopedConfig, { commonDir, gitDir }: TrustPlace): void {
  const isLinked = commonDir !== gitDir;
  for (const entry of scoped.own) {
    // Git does not look at the shared one in a linked worktree.
    if (entry.key !== 'core.worktree' || (isLinked && !entry.file.endsWith('config.worktree'))) continue;
    const workTree = resolve(gitDir, entry.value ?? '');
    if (resolve(workTree, '.git') === gitDir) continue;
    let leadsBack = false;
    try {
      const found = findRepository(workTree, { GIT_CEILING_DIRECTORIES: dirname(workTree) });
      leadsBack = found?.gitDir === gitDir;
    } catch {
      // Its .git file leads nowhere.
    }
    if (!leadsBack) {
      throw new Git2dbError(
        'TRUST_REQUIRED',
        `the repository is not trusted, and its own configuration (${entry.file}) says that its files are in ${workTree}, which knows nothing of it: remove core.worktree, or trust the repository`,
        { data: { key: entry.key, file: entry.file, workTree } },
      );
    }
  }
}

/** Collects what is laid over, and says why. */
class Overlay implements RuleContext {
  readonly config: ConfigPair[] = [...ALWAYS];
  readonly overlayEnv: Record<string, string> = {};
  readonly neutralized: NeutralizedSetting[] = [];
  readonly env: NodeJS.ProcessEnv;
  readonly #scoped: ScopedConfig;

  constructor(scoped: ScopedConfig, env: NodeJS.ProcessEnv) {
    this.#scoped = scoped;
    this.env = env;
  }

  /** A property, because rules take it out of its object. */
  readonly user = (key: string): string | undefined => {
    const entry = this.userEntries((found) => found === key).at(-1);
    // Only a boolean can go without a value.
    return entry === undefined ? undefined : (entry.value ?? 'true');
  };

  userEntries(matches: (key: string) => boolean): readonly ScopedEntry[] {
    return this.#scoped.user.filter((entry) => matches(entry.key) && checkText(entry));
  }

  /** The repository's entries by key, those that git would use last at the end. */
  own(pattern: RegExp): Map<string, ScopedEntry[]> {
    const byKey = new Map<string, ScopedEntry[]>();
    for (const entry of this.#scoped.own) {
      if (!pattern.test(entry.key)) continue;
      byKey.set(entry.key, [...(byKey.get(entry.key) ?? []), entry]);
    }
    return byKey;
  }

  /** `value`: what to say where the user says nothing. */
  replace(entry: ScopedEntry, value: string | undefined, instead?: 'ours'): void {
    checkText(entry);
    const users = instead === undefined ? this.user(entry.key) : undefined;
    const chosen = users ?? value;
    if (chosen === undefined) throw cannotReplace(entry);
    this.config.push([entry.key, chosen]);
    this.note(entry, users === undefined ? (instead ?? 'default') : 'user');
  }

  note({ key, file }: ScopedEntry, instead: NeutralizedSetting['instead']): void {
    this.neutralized.push({ key, file, instead });
  }
}

export function layOver(scoped: ScopedConfig, env: NodeJS.ProcessEnv): TrustSettings {
  const overlay = new Overlay(scoped, env);
  for (const [key, file] of [
    ['core.hookspath', /^core\.hookspath$/],
    ['core.fsmonitor', /^core\.fsmonitor$/],
  ] as const) {
    const entry = overlay.own(file).get(key)?.at(-1);
    if (entry !== undefined) overlay.note(entry, 'default');
  }
  for (const rule of TRUST_RULES) {
    for (const [key, entries] of overlay.own(rule.key)) {
      if (key === CONFIG_HOOK_COMMAND.toLowerCase() && isOwnHook(entries)) {
        // The registry has written it. What a handle pushes needs no hook.
        overlay.config.push([key, 'true']);
        continue;
      }
      const suspect = entries.filter(({ value }) => rule.harmless?.(value) !== true).at(-1);
      if (suspect !== undefined) overlay.replace(suspect, rule.instead(rule.key.exec(key)!, overlay));
    }
  }
  filters(overlay);
  credentialHelpers(overlay);
  protocols(overlay);
  gitProxy(overlay);
  remotePrograms(overlay);
  return { config: overlay.config, env: overlay.overlayEnv, neutralized: overlay.neutralized };
}

function isOwnHook(entries: readonly ScopedEntry[]): boolean {
  return entries.every(({ value }) => isHookCommand(value, filterProgram(undefined, 'git2db')));
}

/**
 * git: `process` if it is set, be it empty; else `clean` and `smudge`; an empty command is none at all,
 * which with `required` is a failure.
 */
function filters(overlay: Overlay): void {
  const own = overlay.own(/^filter\..+\.(clean|smudge|process|required)$/s);
  const drivers = new Map<string, Map<string, ScopedEntry>>();
  for (const [key, entries] of own) {
    const { driver, name } = filterKey(key);
    const parts = drivers.get(driver) ?? new Map<string, ScopedEntry>();
    drivers.set(driver, parts.set(name, entries.at(-1)!));
  }
  for (const [driver, parts] of drivers) {
    // `required` alone makes a missing filter a failure, and runs nothing.
    if (!['clean', 'smudge', 'process'].some((name) => parts.has(name))) continue;
    const prefix = `filter.${driver}.`;
    const users = (name: string) => overlay.user(prefix + name) !== undefined;
    const hasUsers = users('clean') || users('smudge') || users('process');
    // The registry itself has written it: the same program as for filter=xet, under its other name.
    const lfsCommand = driver === 'lfs' ? lfsFilterCommand() : undefined;
    if (lfsCommand !== undefined && parts.get('process')?.value === lfsCommand) {
      ourLfsFilter(overlay, parts, lfsCommand);
      continue;
    }
    if (driver === 'xet' && !hasUsers) {
      ourFilter(overlay, parts);
      continue;
    }
    for (const [name, entry] of parts) {
      if (name === 'process' && hasUsers && !users('process')) throw cannotReplace(entry);
      if (driver === 'xet' && isOurSetting(name, entry)) {
        // The registry has written it, and the user has installed the same program for all: nothing is held off.
        overlay.config.push([entry.key, overlay.user(entry.key) ?? entry.value!]);
        continue;
      }
      overlay.replace(entry, name === 'required' ? 'false' : '');
    }
  }
}

function isOurSetting(name: string, { value }: ScopedEntry): boolean {
  return name === 'process'
    ? value !== undefined && value === filterCommand()
    : name === 'required' && value === 'true';
}

/** Our own driver keeps working; whoever wrote the setting, what runs is the program of this installation. */
function ourFilter(overlay: Overlay, parts: ReadonlyMap<string, ScopedEntry>): void {
  const command = filterCommand();
  // Without our program every checkout of such a file fails, as it must.
  overlay.config.push(['filter.xet.process', command ?? ''], ['filter.xet.required', 'true']);
  const wanted: Readonly<Record<string, string | undefined>> = { process: command, required: 'true' };
  for (const [name, entry] of parts) {
    if (name === 'clean' || name === 'smudge') overlay.config.push([entry.key, '']);
    if (entry.value !== wanted[name]) overlay.note(entry, 'ours');
  }
}

/** The contents are in our store, where no program of the user would find them. */
function ourLfsFilter(overlay: Overlay, parts: ReadonlyMap<string, ScopedEntry>, command: string): void {
  overlay.config.push(['filter.lfs.process', command], ['filter.lfs.required', 'true']);
  for (const [name, entry] of parts) {
    if (name === 'clean' || name === 'smudge') overlay.replace(entry, '');
  }
}

function filterKey(key: string): { driver: string; name: string } {
  const last = key.lastIndexOf('.');
  return { driver: key.slice('filter.'.length, last), name: key.slice(last + 1) };
}

/** A list over all files: an empty value clears it, then the user's own are told again. */
function credentialHelpers(overlay: Overlay): void {
  const pattern = /^credential\.(?:.+\.)?helper$/s;
  const own = overlay.own(pattern);
  if (own.size === 0) return;
  overlay.config.push(['credential.helper', '']);
  for (const { key, value } of overlay.userEntries((found) => pattern.test(found))) {
    overlay.config.push([key, value ?? '']);
  }
  for (const entries of own.values()) overlay.note(entries.at(-1)!, 'user');
}

/** git-config(1), protocol.allow: what holds where nothing is set. */
const PROTOCOL_DEFAULTS: Readonly<Record<string, string>> = {
  http: 'always',
  https: 'always',
  git: 'always',
  ssh: 'always',
  file: 'user',
  ext: 'never',
};

function protocols(overlay: Overlay): void {
  const own = overlay.own(/^protocol\.(?:.+\.)?allow$/s);
  const general = overlay.user('protocol.allow');
  for (const [key, entries] of own) {
    const scheme = /^protocol\.(.+)\.allow$/s.exec(key)?.[1];
    overlay.replace(
      entries.at(-1)!,
      scheme === undefined ? 'user' : (general ?? PROTOCOL_DEFAULTS[scheme] ?? 'user'),
    );
  }
  if (!own.has('protocol.allow') || general !== undefined) return;
  // The general setting cannot be unset, so each scheme that differs from it is told.
  for (const [scheme, policy] of Object.entries(PROTOCOL_DEFAULTS)) {
    const key = `protocol.${scheme}.allow`;
    if (!own.has(key) && overlay.user(key) === undefined) overlay.config.push([key, policy]);
  }
}

/** The first that fits the host wins, so a later one says nothing; GIT_PROXY_COMMAND goes before all. */
function gitProxy(overlay: Overlay): void {
  const own = overlay
    .own(/^core\.gitproxy$/)
    .get('core.gitproxy')
    ?.at(-1);
  if (own === undefined || overlay.env.GIT_PROXY_COMMAND !== undefined) return;
  const users = overlay.userEntries((key) => key === 'core.gitproxy');
  if (users.some(({ value }) => !/ for /.test(value ?? ''))) {
    overlay.note(own, 'user');
    return;
  }
  if (users.length > 0) throw cannotReplace(own);
  overlay.overlayEnv.GIT_PROXY_COMMAND = '';
  overlay.note(own, 'default');
}

/**
 * Of remote.*.uploadpack and receivepack git takes the first and complains of others, so one that is there
 * cannot be laid over. It runs here for a path, and at the other end, as the user, for ssh.
 */
function remotePrograms(overlay: Overlay): void {
  for (const [key, entries] of overlay.own(/^remote\..+\.(uploadpack|receivepack)$/s)) {
    if (overlay.user(key) === undefined) throw cannotReplace(entries[0]!);
    overlay.note(entries[0]!, 'user');
  }
}

/** Always true. Throws for a key or value that cannot be handed to git by the environment as it is. */
function checkText(entry: ScopedEntry): true {
  if (entry.isText) return true;
  throw cannotReplace(entry);
}

function cannotReplace({ key, file }: ScopedEntry): Git2dbError {
  return new Git2dbError(
    'TRUST_REQUIRED',
    `the repository is not trusted, and its own configuration sets ${key} (${file}), for which nothing can be put in its place: remove that setting, or trust the repository`,
    { data: { key, file } },
  );
}
