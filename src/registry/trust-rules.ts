/**
 * The settings by which a repository's configuration can make git (or what git starts) run a program,
 * talk past the user's proxy, or skip the check of a certificate, and what to say in their place.
 *
 * Taken from git-config(1), key by key, and from what git-lfs reads. Not here, because git itself takes
 * them from the user's configuration only: uploadpack.packObjectsHook, safe.*, trace2.*. Not here, because
 * they read files but run nothing: core.attributesFile, core.excludesFile, commit.template, mailmap.file.
 */
import { parseBool } from '../git/config.ts';
import { shellWord } from '../large-files/shell-word.ts';

export interface RuleContext {
  readonly env: NodeJS.ProcessEnv;
  /** The value of the user's own configuration that counts. */
  user(key: string): string | undefined;
}

export interface TrustRule {
  /** On canonical keys: section and name in lower case. */
  readonly key: RegExp;
  /** Values that are harmless need nothing. All are suspect without it. `undefined`: a key without `=`. */
  readonly harmless?: (value: string | undefined) => boolean;
  /** What git does where the key is not set, said as a value. Undefined: cannot be said, so refuse. */
  readonly instead: (match: RegExpExecArray, context: RuleContext) => string | undefined;
}

/** Never started by us, or only for a person who asked for exactly that: it fails. */
const FAIL = () => 'false';
/** Where git itself starts nothing for an empty value. */
const EMPTY = () => '';

const GPG_PROGRAMS: Readonly<Record<string, string>> = { openpgp: 'gpg', x509: 'gpgsm', ssh: 'ssh-keygen' };

/**
 * Filters, credential helpers, protocol policies, core.gitProxy and the programs at the other end of a
 * remote have rules of their own in trust-overlay.ts: there one key's meaning depends on others, or the first wins.
 */
export const TRUST_RULES: readonly TrustRule[] = [
  // Programs for the person at the terminal.
  { key: /^core\.pager$/, instead: (_, { env }) => env.PAGER ?? 'less' },
  { key: /^pager\..+$/, harmless: (value) => parseBool(value) !== undefined, instead: FAIL },
  { key: /^core\.editor$/, instead: (_, context) => editor(context) },
  { key: /^sequence\.editor$/, instead: (_, context) => sequenceEditor(context) },
  { key: /^core\.askpass$/, instead: (_, { env }) => env.SSH_ASKPASS ?? '' },
  { key: /^interactive\.difffilter$/, instead: () => 'cat' },
  { key: /^alias\..+$/, instead: EMPTY },

  // What is done with contents. `git diff` has no value that means "as if unset" for an external program.
  { key: /^diff\.external$/, instead: FAIL },
  { key: /^diff\..+\.command$/, instead: FAIL },
  { key: /^diff\..+\.textconv$/, instead: () => 'cat' },
  // Ours is git's own three-way merge of text, which is what a path without a driver gets.
  { key: /^merge\..+\.driver$/, instead: () => 'git merge-file --marker-size=%L %A %O %B' },
  { key: /^trailer\..+\.command$/, instead: () => 'true' },
  { key: /^trailer\..+\.cmd$/, instead: () => 'printf %s' },
  {
    key: /^tar\.(.+)\.command$/,
    instead: ([, format]) => (/^(tar\.|t)gz$/.test(format!) ? 'gzip -cn' : 'false'),
  },
  { key: /^lfs\.extension\..+\.(clean|smudge)$/, instead: FAIL },
  { key: /^lfs\.customtransfer\..+\.path$/, instead: FAIL },
  { key: /^lfs\.(.+\.)?standalonetransferagent$/, instead: EMPTY },

  // Signatures.
  { key: /^gpg\.program$/, instead: (_, { user }) => user('gpg.openpgp.program') ?? 'gpg' },
  { key: /^gpg\.ssh\.defaultkeycommand$/, instead: FAIL },
  {
    key: /^gpg\.(.+)\.program$/,
    instead: ([, format], { user }) =>
      (format === 'openpgp' ? user('gpg.program') : undefined) ?? GPG_PROGRAMS[format!] ?? 'false',
  },

  // The way to a remote.
  { key: /^core\.sshcommand$/, instead: (_, { env }) => (env.GIT_SSH ? shellWord(env.GIT_SSH) : 'ssh') },
  { key: /^core\.alternaterefscommand$/, instead: () => 'true' },
  { key: /^remote\..+\.proxy$/, instead: (_, { env, user }) => user('http.proxy') ?? proxy(env) },
  { key: /^http\.(.+\.)?proxy$/, instead: (_, { env, user }) => user('http.proxy') ?? proxy(env) },
  {
    key: /^http\.(.+\.)?sslverify$/,
    harmless: (value) => parseBool(value) === true,
    instead: (_, { user }) => user('http.sslverify') ?? 'true',
  },
  { key: /^http\.(.+\.)?curloptresolve$/, instead: EMPTY },
  { key: /^http\.(.+\.)?savecookies$/, instead: (_, { user }) => user('http.savecookies') ?? 'false' },

  // What git does beside its task.
  { key: /^submodule\..+\.update$/, harmless: (value) => !value?.startsWith('!'), instead: () => 'checkout' },
  { key: /^hook\..+\.command$/, instead: () => 'true' },
  // A list that every file adds to and nothing clears.
  { key: /^gc\.recentobjectshook$/, instead: () => undefined },
  { key: /^init\.templatedir$/, instead: EMPTY },

  // Commands for a person's desktop, which no operation of ours starts.
  { key: /^(difftool|mergetool|browser|man|guitool)\..+\.(cmd|path)$/, instead: FAIL },
  { key: /^(web\.browser|help\.browser|instaweb\.(browser|httpd|modulepath)|imap\.tunnel)$/, instead: FAIL },
  { key: /^sendemail\.(.+\.)?(sendmailcmd|tocmd|cccmd|headercmd|smtpserver)$/, instead: FAIL },
];

/** As git looks for an editor where no configuration names one. */
function editor({ env, user }: RuleContext): string {
  const dumb = env.TERM === undefined || env.TERM === 'dumb';
  return user('core.editor') ?? (dumb ? undefined : env.VISUAL) ?? env.EDITOR ?? env.VISUAL ?? 'vi';
}

function sequenceEditor(context: RuleContext): string {
  return context.env.GIT_EDITOR ?? editor(context);
}

/** One setting serves all schemes, so the first of the variables that curl would look at. */
function proxy(env: NodeJS.ProcessEnv): string {
  return env.https_proxy ?? env.HTTPS_PROXY ?? env.http_proxy ?? env.all_proxy ?? env.ALL_PROXY ?? '';
}
