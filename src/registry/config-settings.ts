/** Every setting: its name, its spellings in each source, what it can be, and what it is unless set. */
import { parseInteger } from '../git/config.ts';
import { httpAuthority } from './auth.ts';

export const WORKTREE_DRIVERS = ['auto', 'overlay2', 'reflink', 'vfs'] as const;
export const OVERLAY_BACKENDS = ['auto', 'kernel', 'userns', 'fuse'] as const;

export type WorktreeDriver = (typeof WORKTREE_DRIVERS)[number];
export type OverlayBackend = (typeof OVERLAY_BACKENDS)[number];

/** Complete, and never changed afterwards. */
export interface RegistryConfig {
  readonly worktreeDriver: WorktreeDriver;
  readonly overlayBackend: OverlayBackend;
  /** Who commits where git itself knows nobody. */
  readonly gitName: string | undefined;
  readonly gitEmail: string | undefined;
  /** Git operations at work at the same time in one manager. */
  readonly maxConcurrent: number;
  /** How long to wait for the registry's lock. */
  readonly lockTimeoutMs: number;
  /** A Xet service, and the token that goes to its authority and to no other. */
  readonly xetEndpoint: string | undefined;
  readonly xetToken: string | undefined;
  /** Hugging Face's hub (or another of its kind), and the token for it. */
  readonly hfEndpoint: string;
  readonly hfToken: string | undefined;
}

export type SettingName = keyof RegistryConfig;
export type SettingValue = string | number | undefined;

export interface Setting {
  readonly name: SettingName;
  /** In config.toml. Secrets have none: they are not for files. */
  readonly toml?: readonly string[];
  /** Of the environment; an empty value is none. */
  readonly variable: string;
  /** In git's configuration. */
  readonly git?: string;
  readonly secret?: boolean;
  /**
   * Not taken from a repository's own configuration: it says where a token goes, and whoever made the
   * repository is not the one to say that.
   */
  readonly userOnly?: boolean;
  readonly fallback: SettingValue;
  /** The value meant by what a source gives, or why it is none: "expected ...". */
  readonly parse: (given: unknown) => { readonly value: string | number } | { readonly expected: string };
}

const DRIVER_ALIASES: Readonly<Record<string, WorktreeDriver>> = { overlayfs: 'overlay2', none: 'vfs' };

export const SETTINGS: readonly Setting[] = [
  {
    name: 'worktreeDriver',
    toml: ['worktree', 'driver'],
    variable: 'GIT2DB_WORKTREE_DRIVER',
    git: 'git2db.worktreeDriver',
    fallback: 'auto',
    parse: (given) => oneOf(DRIVER_ALIASES[String(given)] ?? given, WORKTREE_DRIVERS),
  },
  {
    name: 'overlayBackend',
    toml: ['worktree', 'overlay2', 'backend'],
    variable: 'GIT2DB_OVERLAY_BACKEND',
    git: 'git2db.overlayBackend',
    fallback: 'auto',
    parse: (given) => oneOf(given, OVERLAY_BACKENDS),
  },
  {
    name: 'gitName',
    toml: ['git', 'name'],
    variable: 'GIT2DB_GIT_NAME',
    git: 'git2db.gitName',
    fallback: undefined,
    parse: identityPart,
  },
  {
    name: 'gitEmail',
    toml: ['git', 'email'],
    variable: 'GIT2DB_GIT_EMAIL',
    git: 'git2db.gitEmail',
    fallback: undefined,
    parse: identityPart,
  },
  {
    name: 'maxConcurrent',
    toml: ['operations', 'max_concurrent'],
    variable: 'GIT2DB_MAX_CONCURRENT',
    git: 'git2db.maxConcurrent',
    fallback: 10,
    parse: (given) => integer(given, 1, 1000),
  },
  {
    name: 'lockTimeoutMs',
    toml: ['registry', 'lock_timeout_ms'],
    variable: 'GIT2DB_LOCK_TIMEOUT_MS',
    git: 'git2db.lockTimeoutMs',
    fallback: 30_000,
    parse: (given) => integer(given, 0, 86_400_000),
  },
  {
    name: 'xetEndpoint',
    toml: ['xet', 'endpoint'],
    variable: 'GIT2DB_XET_ENDPOINT',
    git: 'xet.endpoint',
    userOnly: true,
    fallback: undefined,
    parse: endpoint,
  },
  { name: 'xetToken', variable: 'XETHUB_TOKEN', secret: true, fallback: undefined, parse: token },
  {
    name: 'hfEndpoint',
    toml: ['hf', 'endpoint'],
    variable: 'HF_ENDPOINT',
    git: 'git2db.hfEndpoint',
    userOnly: true,
    fallback: 'https://huggingface.co',
    parse: endpoint,
  },
  { name: 'hfToken', variable: 'HF_TOKEN', secret: true, fallback: undefined, parse: token },
];

type Parsed = ReturnType<Setting['parse']>;

function oneOf(given: unknown, values: readonly string[]): Parsed {
  return values.includes(given as string)
    ? { value: given as string }
    : { expected: `one of ${values.join(', ')}` };
}

/** Decimal, or git's way with k, m and g, in [least, most]. */
function integer(given: unknown, least: number, most: number): Parsed {
  const value = typeof given === 'string' ? parseInteger(given.trim()) : given;
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= least && value <= most
    ? { value }
    : { expected: `an integer from ${least} to ${most}` };
}

/** git's fsck refuses these in an identity; a name of nothing else is none either. */
function identityPart(given: unknown): Parsed {
  return typeof given === 'string' && given.trim() !== '' && !/[<>\n\0]/.test(given)
    ? { value: given.trim() }
    : { expected: 'text in one line without < and >' };
}

/** http or https, no user information; a path is allowed. */
function endpoint(given: unknown): Parsed {
  const expected = { expected: 'a URL such as https://host, without a user or token in it' };
  if (typeof given !== 'string' || !/^https?:\/\/[^\s@\\?#]+$/i.test(given)) return expected;
  try {
    httpAuthority(given);
    return { value: given.replace(/\/+$/, '') };
  } catch {
    return expected;
  }
}

function token(given: unknown): Parsed {
  return typeof given === 'string' && /^[\x21-\x7e]+$/.test(given)
    ? { value: given }
    : { expected: 'a token in one word' };
}
