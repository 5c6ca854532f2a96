/**
 * Attributes of paths, as git sees them: one `git check-attr` for any number of paths.
 * For editing a `.gitattributes` file see attributes-file.ts.
 */

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Git2dbError } from '../xet/errors.ts';
import { batched, splitRecords } from './records.ts';
import { type GitRun, git, gitStream } from './runner.ts';

export {
  type AttributesAdd,
  type AttributesEdit,
  addLine,
  listPatterns,
  quotePattern,
  removePattern,
  type TrackedPattern,
  type Tracking,
  trackingOf,
} from './attributes-file.ts';

export interface PathAttributes {
  readonly path: Buffer;
  /** For each attribute asked for: `set`, `unset`, `unspecified`, or its value. */
  readonly attributes: ReadonlyMap<string, string>;
}

export interface CheckAttributes extends Pick<GitRun, 'cwd' | 'env' | 'signal' | 'keepGitEnv'> {
  /** Take the `.gitattributes` files of this tree, not those of the work tree. Works in a bare repository. */
  readonly source?: string;
}

/**
 * The attributes `attrs` of every path, in order. Paths are relative to `cwd` (to the top, with
 * `source` or in a bare repository), with `/` between; the files need not exist.
 */
export async function* checkAttributes(
  paths: AsyncIterable<Buffer> | Iterable<Buffer>,
  attrs: readonly string[],
  options: CheckAttributes = {},
): AsyncIterable<PathAttributes> {
  const { source, ...run } = options;
  if (source === undefined) {
    yield* checkAttr(paths, attrs, [], run);
    return;
  }
  // `check-attr --source` came with git 2.40; an index made from the tree serves every version.
  const directory = await mkdtemp(join(tmpdir(), 'git2db-attributes-'));
  try {
    const env = { ...run.env, GIT_INDEX_FILE: join(directory, 'index') };
    // A split index or a file system monitor would leave files in the repository.
    const plain = ['-c', 'core.splitIndex=false', '-c', 'core.fsmonitor=false'];
    await git([...plain, 'read-tree', source], { ...run, env });
    yield* checkAttr(paths, attrs, ['--cached'], { ...run, env });
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

async function* checkAttr(
  paths: AsyncIterable<Buffer> | Iterable<Buffer>,
  attrs: readonly string[],
  flags: readonly string[],
  run: Omit<CheckAttributes, 'source'>,
): AsyncIterable<PathAttributes> {
  if (attrs.length === 0) return;
  const args = ['check-attr', '-z', '--stdin', ...flags, ...attrs];
  const { stdout } = gitStream(args, { ...run, input: batched(terminated(paths)) });
  // Output: path NUL attribute NUL value NUL, for each attribute of each path.
  let fields: Buffer[] = [];
  for await (const field of splitRecords(stdout, 0)) {
    fields.push(field);
    if (fields.length < 3 * attrs.length) continue;
    const attributes = new Map<string, string>();
    for (let at = 0; at < fields.length; at += 3) {
      attributes.set(fields[at + 1]!.toString('utf8'), fields[at + 2]!.toString('utf8'));
    }
    yield { path: Buffer.from(fields[0]!), attributes };
    fields = [];
  }
  if (fields.length > 0) {
    throw new Git2dbError(
      'GIT_FAILED',
      `git check-attr ended within an answer (${fields.length} fields left)`,
    );
  }
}

async function* terminated(paths: AsyncIterable<Buffer> | Iterable<Buffer>): AsyncIterable<Buffer> {
  for await (const path of paths) yield Buffer.concat([path, NUL]);
}

const NUL = Buffer.of(0);
