/**
 * The registry's settings, resolved once: what the program says, then flags, environment, git's
 * configuration, the user's config.toml, and defaults.
 *
 * A value that cannot be is an error wherever it stands, used or not; a key that nobody knows is a warning,
 * because a newer version may know it. Neither is printed here.
 */
import { listConfig, listConfigBeside } from '../git/config.ts';
import { splitZ } from '../git/records.ts';
import { Git2dbError } from '../xet/errors.ts';
import { configFilePath, readConfigFile } from './config-file.ts';
import {
  type RegistryConfig,
  SETTINGS,
  type Setting,
  type SettingName,
  type SettingValue,
} from './config-settings.ts';

export type { OverlayBackend, RegistryConfig, SettingName, WorktreeDriver } from './config-settings.ts';

export type ConfigInput = { readonly [K in SettingName]?: SettingValue };

export interface ConfigSources {
  /** Whose git configuration counts: a repository, or any directory. */
  readonly cwd: string;
  readonly env: NodeJS.ProcessEnv;
  /** Of a command line. */
  readonly flags?: ConfigInput | undefined;
  /** Of the program that embeds the library. */
  readonly programmatic?: ConfigInput | undefined;
}

export type ConfigSource = 'programmatic' | 'flag' | 'environment' | 'git' | 'file' | 'default';

export interface GivenValue {
  readonly value: SettingValue;
  readonly source: ConfigSource;
  /** `GIT2DB_GIT_NAME`, `file:.git/config git2db.gitName`, `/home/u/.config/git2db/config.toml:3 git.name`. */
  readonly where: string;
}

export interface ResolvedConfig {
  readonly config: RegistryConfig;
  readonly warnings: readonly string[];
  /** All that was given for each setting, the one in force first; the last is the default. Holds secrets. */
  readonly given: ReadonlyMap<SettingName, readonly GivenValue[]>;
  /** Where the user's file is or would be. */
  readonly file: string | undefined;
}

/** Throws INVALID_CONFIG, naming the place and the key. */
export function loadConfig(sources: ConfigSources): RegistryConfig {
  return resolveConfig(sources).config;
}

/** As `loadConfig`, while git runs beside what the caller does meanwhile. */
export async function loadConfigBeside(sources: ConfigSources): Promise<RegistryConfig> {
  const { cwd, env } = sources;
  return resolveWith(sources, await listConfigBeside(cwd, GIT_SETTINGS, { env })).config;
}

/** As `loadConfig`, with what is to be said about it. */
export function resolveConfig(sources: ConfigSources): ResolvedConfig {
  const { cwd, env } = sources;
  return resolveWith(sources, listConfig(cwd, GIT_SETTINGS, { env }));
}

/** `git`: what it says of `GIT_SETTINGS`. */
function resolveWith(sources: ConfigSources, git: Buffer): ResolvedConfig {
  const { env } = sources;
  const warnings: string[] = [];
  const given = new Map<SettingName, GivenValue[]>(SETTINGS.map(({ name }) => [name, []]));
  addInput(given, 'programmatic', sources.programmatic);
  addInput(given, 'flag', sources.flags);
  for (const setting of SETTINGS) {
    const value = env[setting.variable];
    if (value !== undefined && value !== '') add(given, setting, value, 'environment', setting.variable);
  }
  addGit(given, git, warnings);
  const file = configFilePath(env);
  if (file !== undefined) addFile(given, file, warnings);
  for (const setting of SETTINGS) {
    given.get(setting.name)!.push({ value: setting.fallback, source: 'default', where: 'built in' });
  }
  const config = Object.fromEntries(SETTINGS.map(({ name }) => [name, given.get(name)![0]!.value]));
  return { config: Object.freeze(config) as unknown as RegistryConfig, warnings, given, file };
}

function addInput(
  given: Map<SettingName, GivenValue[]>,
  source: ConfigSource,
  input: ConfigInput = {},
): void {
  for (const [name, value] of Object.entries(input)) {
    if (value === undefined) continue;
    const setting = SETTINGS.find((known) => known.name === name);
    if (setting === undefined) {
      const names = SETTINGS.map((known) => known.name).join(', ');
      throw new Git2dbError(
        'INVALID_CONFIG',
        `there is no setting ${JSON.stringify(name)}; there are ${names}`,
      );
    }
    add(given, setting, value, source, name);
  }
}

const GIT_KEYS = '^(git2db\\..*|xet\\.(endpoint|token))$';
const GIT_SETTINGS = ['--show-scope', '--show-origin', '--get-regexp', GIT_KEYS];

/** In git the last value counts, so the first one added here. */
function addGit(given: Map<SettingName, GivenValue[]>, stdout: Buffer, warnings: string[]): void {
  const pieces = [...splitZ(stdout)].map((piece) => piece.toString('utf8'));
  for (let i = pieces.length - 3; i >= 0; i -= 3) {
    const [scope, origin, record] = pieces.slice(i, i + 3) as [string, string, string];
    const newline = record.indexOf('\n');
    const key = newline < 0 ? record : record.slice(0, newline);
    const setting = SETTINGS.find(({ git }) => git?.toLowerCase() === key);
    if (setting === undefined) {
      warnings.push(unknownKey(key, `git config, ${origin}`));
    } else if (setting.userOnly === true && (scope === 'local' || scope === 'worktree')) {
      warnings.push(
        `git config, ${origin}: ${setting.git} of a repository is not taken, as a token would follow it: set it with --global`,
      );
    } else {
      const value = newline < 0 ? 'true' : record.slice(newline + 1);
      add(given, setting, value, 'git', `${setting.git} (${origin})`);
    }
  }
}

function addFile(given: Map<SettingName, GivenValue[]>, file: string, warnings: string[]): void {
  for (const { path, value, line } of readConfigFile(file)) {
    const setting = SETTINGS.find(({ toml }) => toml?.join('.') === path.join('.'));
    const key = path.join('.');
    if (setting === undefined) warnings.push(unknownKey(key, `${file}, line ${line}`));
    else add(given, setting, value, 'file', `${file}, line ${line}, ${key}`);
  }
}

function add(
  given: Map<SettingName, GivenValue[]>,
  setting: Setting,
  raw: unknown,
  source: ConfigSource,
  where: string,
): void {
  const parsed = setting.parse(raw);
  if ('value' in parsed) {
    given.get(setting.name)!.push({ value: parsed.value, source, where });
    return;
  }
  const found = setting.secret === true ? 'something else' : JSON.stringify(raw);
  throw new Git2dbError(
    'INVALID_CONFIG',
    `${where}: expected ${parsed.expected}, found ${found}: correct it`,
    {
      data: { setting: setting.name, source, where },
    },
  );
}

/** A token in a file is worth more words: whoever wrote it believes it is used. */
function unknownKey(key: string, where: string): string {
  if (!/token$/i.test(key)) return `${where}: unknown key ${key}`;
  return `${where}: ${key} is not read, because tokens do not belong in files: set XETHUB_TOKEN or HF_TOKEN`;
}
