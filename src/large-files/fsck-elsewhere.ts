/** Which of the files that this store does not know are lost, and which of them somebody else holds. */
import type { EvictedNote } from '../xet/store/evicted.ts';
import type { FileFault } from '../xet/store/fsck-damage.ts';
import type { LocalStore } from '../xet/store/local-store.ts';
import { ContentRemotes } from './content-remotes.ts';
import type { FsckOptions } from './fsck.ts';
import { A_SHARD } from './fsck-references.ts';
import type { ElsewhereFile, FsckReport, LostFile } from './fsck-report.ts';
import { askRemotes, type HeldAnswer } from './held-elsewhere.ts';

/** Nothing here describes it: it was never here, or was given up. */
function isAbsent({ state, faults }: LostFile): boolean {
  return (
    state === 'missing' && faults.every(({ xorb, expected }) => xorb === undefined && expected === A_SHARD)
  );
}

type Sorted = Pick<FsckReport, 'lost' | 'elsewhere'>;

/** What was evicted is where it was then, as far as anybody knows. */
export function passEvicted(files: readonly LostFile[], notes: ReadonlyMap<string, EvictedNote>): Sorted {
  const lost: LostFile[] = [];
  const elsewhere: ElsewhereFile[] = [];
  for (const file of files) {
    const note = isAbsent(file) ? notes.get(file.fileHash) : undefined;
    if (note !== undefined && note.size === file.size) elsewhere.push(atRemote(file, note));
    else lost.push(file);
  }
  return { lost, elsewhere };
}

/** What is nowhere here is asked for at the remotes; what they are known to hold is no loss. */
export async function askForAbsent(
  store: LocalStore,
  files: readonly LostFile[],
  { cwd, env, mayPrompt = false, signal, warn = () => {} }: FsckOptions,
): Promise<Sorted> {
  const absent = files.filter(isAbsent);
  if (absent.length === 0) return { lost: files, elsewhere: [] };
  const asked = new Map(
    absent.map(({ fileHash, size }) => [`${fileHash} ${size}`, { hash: fileHash, size }]),
  );
  await using remotes = new ContentRemotes({ cwd, env, mayPrompt, warn, signal, refresh: true });
  const answers = await askRemotes(remotes, store, [...asked.values()], { signal });
  const byKey = new Map([...asked.keys()].map((key, i) => [key, answers[i] as HeldAnswer]));
  const provedAt = new Date();
  const lost: LostFile[] = [];
  const elsewhere: ElsewhereFile[] = [];
  for (const file of files) {
    const answer = isAbsent(file) ? byKey.get(`${file.fileHash} ${file.size}`) : undefined;
    if (answer === undefined) lost.push(file);
    else if (answer.place !== undefined) elsewhere.push(atRemote(file, { place: answer.place, provedAt }));
    else lost.push({ ...file, faults: file.faults.map((fault) => doubted(fault, answer.doubts)) });
  }
  return { lost, elsewhere };
}

function doubted(fault: FileFault, doubts: readonly string[]): FileFault {
  return { ...fault, found: `${fault.found}; ${doubts.join('; ')}` };
}

function atRemote(
  { repository, commit, path, oid, fileHash, size }: LostFile,
  { place, provedAt }: Pick<ElsewhereFile, 'place' | 'provedAt'>,
): ElsewhereFile {
  return { repository, commit, path, oid, fileHash, size, place, provedAt };
}
