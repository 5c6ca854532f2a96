/**
 * What git means by what it says. Runs have LC_ALL=C, so these are the texts of git's sources; where a text was changed
 * between git 2.30 and 2.5x, the table has all of its forms. The first line of the table that matches
 * counts: narrow texts stand before wide ones, and the reason before what follows from it ("The remote end
 * hung up" comes after a refused password too).
 */
import { type ErrorCode, Git2dbError } from '../xet/errors.ts';

type Rule = readonly [code: ErrorCode, text: RegExp];

const RULES: readonly Rule[] = [
  ['DISK_FULL', /No space left on device|Disk quota exceeded|Out of diskspace/],
  ['OWNER_DUBIOUS', /detected dubious ownership in repository|unsafe repository \('.*' is owned by/],
  // Of remotes. A wrong address is not mended by waiting, nor by other credentials.
  [
    'NOT_FOUND',
    /The requested URL returned error: 404|remote: (?:Repository|Not) [Nn]ot found|[Rr]epository '.*' (?:not found|does not exist)/,
  ],
  [
    'NOT_FOUND',
    /does not appear to be a git repository|fatal: no path specified|No such remote|No remote configured|No remote repository specified/,
  ],
  [
    'AUTH_FAILED',
    /Authentication failed for|could not read (?:Username|Password) for|terminal prompts disabled/,
  ],
  [
    'AUTH_FAILED',
    /Permission denied \([a-z,-]+\)|Permission denied, please try again|Too many authentication failures/,
  ],
  [
    'AUTH_FAILED',
    /The requested URL returned error: 40[137]|HTTP Basic: Access denied|Invalid username or (?:password|token)|Host key verification failed/,
  ],
  [
    'AUTH_FAILED',
    /unable to read askpass response|Load key ".*": |gnutls_handshake\(\) failed: Certificate is required/,
  ],
  [
    'NETWORK',
    /Could not resolve (?:host|hostname|proxy)|Name or service not known|Temporary failure in name resolution|unable to look up /,
  ],
  [
    'NETWORK',
    /Failed to connect to|Couldn't connect to server|Connection (?:refused|timed out|reset by|closed by)|Operation timed out|Network is unreachable|No route to host|unable to connect to/,
  ],
  [
    'NETWORK',
    /The requested URL returned error: (?:408|429|5\d\d)|RPC failed|early EOF|unexpected disconnect while reading sideband|[Tt]he remote end hung up/,
  ],
  [
    'NETWORK',
    /SSL certificate problem|server certificate verification failed|gnutls_handshake\(\) failed|SSL_(?:connect|read|ERROR)|TLS connect error|kex_exchange_identification|Transferred a partial file/,
  ],
  [
    'URL_INVALID',
    /transport '.*' not allowed|remote-[a-z0-9+-]+' is not a git command|is not a valid 'file' URL|URL using bad\/illegal format|redirection to|strange (?:hostname|pathname) '/,
  ],
  ['NETWORK', /unable to access '/],
  ['NOT_A_REPOSITORY', /not a git repository|cannot use bare repository|Invalid gitfile format/],
  // Locks and races.
  [
    'INDEX_LOCKED',
    /Unable to create '.*index\.lock': File exists|Unable to write new index file|unable to lock index/,
  ],
  [
    'REF_EXISTS',
    /cannot lock ref '.*': '.*' exists; cannot create|there (?:are|is) still (?:refs|logs) under|reference already exists/,
  ],
  [
    'CONFLICT',
    /is at [0-9a-f]+ but expected [0-9a-f]+|incorrect old value provided|expected symref|Unable to create '.*\.lock': File exists|could not lock config file/,
  ],
  [
    'REF_INVALID',
    /cannot lock ref '.*': unable to resolve reference|cannot lock ref '.*': reference is missing but expected|refusing to update ref with bad name/,
  ],
  ['CONFLICT', /cannot lock ref|failed to lock|unable to lock/],
  // Operations that wait, or do not.
  [
    'OPERATION_IN_PROGRESS',
    /You have not concluded your (?:merge|cherry-pick)|there is already a rebase-(?:merge|apply) directory|(?:cherry-pick|revert)(?: or (?:cherry-pick|revert))? is already in progress|cannot switch branch while|You are in the middle of an? /,
  ],
  [
    'NO_OPERATION',
    /There is no merge (?:to abort|in progress)|[Nn]o (?:rebase|merge|am session) in progress|no (?:cherry-pick|revert)(?: or revert)? in progress/,
  ],
  ['HISTORIES_UNRELATED', /refusing to merge unrelated histories/],
  [
    'NOT_FAST_FORWARD',
    /Not possible to fast-forward|Diverging branches can't be fast-forwarded|Need to specify how to reconcile divergent branches/,
  ],
  [
    'WORKTREE_DIRTY',
    /[Yy]our local changes (?:to the following files )?would be (?:overwritten|lost)|untracked working tree files would be|Untracked working tree file '.*' would be|not uptodate\. Cannot|is not uptodate/,
  ],
  [
    'WORKTREE_DIRTY',
    /[Yy]ou have unstaged changes|[Yy]our index contains uncommitted changes|contains modified or untracked files|has (?:local modifications|changes staged in the index|staged content different)|Updating the following directories would lose untracked files|already exists, no checkout|could not restore untracked files from stash/,
  ],
  [
    'MERGE_CONFLICT',
    /CONFLICT \(|unmerged files|Automatic merge failed|could not (?:apply|revert) [0-9a-f]|unresolved conflict|resolve your current index first|you need to resolve|with conflicts?\b|needs merge|in the middle of a merge|still have unmerged paths|cannot .* because .* unmerged/,
  ],
  [
    'NOTHING_TO_COMMIT',
    /nothing (?:added )?to commit|no changes added to commit|nothing to commit|is now empty, possibly due to conflict resolution|would make\s+it empty|No changes selected|No local changes to save|No staged changes/,
  ],
  // Identities and signatures.
  [
    'IDENTITY_UNKNOWN',
    /[Pp]lease tell me who you are|unable to auto-detect email address|empty ident name|no (?:email|name) was given and auto-detection is disabled|ident name consists only of disallowed characters/,
  ],
  [
    'SIGNING_FAILED',
    /failed to sign the data|cannot run gpg|unable to sign the (?:tag|commit)|gpg\.ssh\.|user\.signing[kK]ey needs to be set|Couldn't load public key|Couldn't (?:find key|sign message)|either user\.signingkey/,
  ],
  ['HOOK_FAILED', /hook declined|hook exited with|the '.*' hook (?:failed|returned)/],
  // Branches, tags, names.
  [
    'BRANCH_IN_USE',
    /already checked out at '|already used by worktree at '|[Cc]annot delete (?:the )?branch '.*' (?:checked out|which you are)|cannot delete branch '.*' used by|[Cc]annot force update the (?:current branch|branch)|refusing to fetch into (?:current )?branch|cannot (?:rename|be renamed)|is being (?:rebased|bisected)/,
  ],
  ['NOT_MERGED', /is not fully merged/],
  [
    'REF_EXISTS',
    /[Aa] branch named '.*' already exists|tag '.*' already exists|remote .* already exists|cannot rename .* already exists/,
  ],
  [
    'PATH_INVALID',
    /pathspec '.*' did not match any|is outside (?:the )?repository|no such path '.*' in|is beyond a symbolic link|has only \d+ lines?|[Pp]ath '.*' (?:does not exist|exists on disk, but not)|is in submodule|ignored by one of your \.gitignore|pathspec '.*' is in|Invalid path '|no such file or directory in/,
  ],
  [
    'REF_INVALID',
    /unknown revision|bad (?:revision|object|default revision)|[Nn]ot a valid (?:object name|ref)|[Nn]eeded a single revision|[Aa]mbiguous argument|short (?:object ID|SHA1) .* is ambiguous|is not a valid (?:branch|tag|remote|ref|reference|object)|not a valid (?:branch|tag|remote|ref) name/,
  ],
  [
    'REF_INVALID',
    /invalid (?:reference|refspec|branch name|upstream|ref format)|not something we can merge|couldn't find remote ref|(?:is not a|not a) commit|requested upstream branch|upstream branch '.*' does not exist|(?:branch|tag) '.*' not found|[Nn]o branch named|does not match any|not a stash-like|only has \d+ entries|No stash entries found|does not point to|reference (?:broken|is not a tree)|not a (?:tree|tag) object|no such ref|[Dd]id not (?:find|match) any|ref .* is not a symbolic ref|no commit on branch|does not have any commits yet|There is no tracking information|no upstream configured|Could not get ref|invalid object name|nonexistent object/,
  ],
  [
    'OBJECT_MISSING',
    /unable to (?:stream|read (?:tree|sha1 file|object))|loose object .* is corrupt|object file .* is empty|(?:missing|corrupt) (?:blob|tree|commit|object)|bad (?:tree|sig|packed) |packfile .* (?:is corrupt|cannot be accessed)|inflate: |object .* cannot be read|could not (?:parse|read) (?:commit|object)|pack has (?:bad|junk)|failed to read object|unable to (?:unpack|parse)/,
  ],
];

/** The class of failure that `text` (stderr, or all that git wrote) tells of; undefined when it fits none. */
export function classify(text: string): ErrorCode | undefined {
  return RULES.find(([, pattern]) => pattern.test(text))?.[0];
}

/**
 * `error`, with the code of what git complained about instead of GIT_FAILED where that is known. Message
 * and data stay; the error of the runner is the cause.
 */
export function classified(error: unknown): unknown {
  if (!(error instanceof Git2dbError) || error.code !== 'GIT_FAILED') return error;
  const { stderr } = error.data;
  const code = typeof stderr === 'string' ? classify(stderr) : undefined;
  return code === undefined
    ? error
    : new Git2dbError(code, error.message, { cause: error, data: error.data });
}
