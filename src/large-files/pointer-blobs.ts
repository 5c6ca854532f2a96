/** Which blobs of an index or a tree are pointers. */
import { ObjectReader } from '../git/cat-file.ts';
import { type GitRun, gitLinesZ } from '../git/runner.ts';
import { POINTER_MAX, type Pointer, sniffPointer } from '../xet/pointer/sniff.ts';

type Run = Pick<GitRun, 'cwd' | 'env' | 'keepGitEnv' | 'signal'>;

export interface BlobFacts {
  /** Bytes of the blob itself. */
  readonly size: number;
  /** Undefined: the blob is ordinary content. */
  readonly pointer: Pointer | undefined;
}

/** Questions to git on their way at once. */
const WINDOW = 256;

/** Facts of every blob among `oids`; names of something else, or of nothing, are left out. */
export async function readBlobFacts(oids: Iterable<string>, run: Run): Promise<Map<string, BlobFacts>> {
  const facts = new Map<string, BlobFacts>();
  const distinct = [...new Set(oids)];
  const reader = new ObjectReader(run);
  try {
    for (let start = 0; start < distinct.length; start += WINDOW) {
      const batch = distinct.slice(start, start + WINDOW);
      await Promise.all(
        batch.map(async (oid) => {
          const header = await reader.info(oid);
          if (header?.type !== 'blob') return;
          const { size } = header;
          const small = size <= POINTER_MAX ? await reader.read(oid) : undefined;
          facts.set(oid, { size, pointer: small === undefined ? undefined : sniffPointer(small.body) });
        }),
      );
    }
  } finally {
    await reader.close();
  }
  return facts;
}

export interface TreeFile {
  /** As git stores it, relative to where it was asked. */
  readonly path: Buffer;
  readonly oid: string;
}

const TAB = 0x09;

/**
 * The ordinary files (no links, no submodules) of the index at stage 0, or of the tree `ref`, below
 * `cwd`; paths are relative to `cwd`.
 */
export async function listFiles(ref: string | undefined, run: Run): Promise<TreeFile[]> {
  // index: mode SP oid SP stage TAB path; tree: mode SP type SP oid TAB path
  const args = ref === undefined ? ['ls-files', '-s', '-z'] : ['ls-tree', '-r', '-z', ref];
  const files: TreeFile[] = [];
  for (const record of await gitLinesZ(args, run)) {
    const tab = record.indexOf(TAB);
    const [mode, second, third] = record.toString('latin1', 0, tab).split(' ') as [string, string, string];
    if (!mode.startsWith('100')) continue;
    if (ref === undefined && third !== '0') continue;
    files.push({ path: record.subarray(tab + 1), oid: ref === undefined ? second : third });
  }
  return files;
}
