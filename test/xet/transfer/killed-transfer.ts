/**
 * A fetch or push that may be killed, as a process of its own: arguments are what to do, the store of this machine,
 * the directory that plays the other store, the file hashes (JSON), and the number of the step before which it
 * ends by SIGKILL. A step is a call of the other store, a piece of what is moved, or a file that is done.
 */
import { parseHash } from '../../../src/xet/hash/xet-hash.ts';
import { DirectoryStore } from '../../../src/xet/store/directory-store.ts';
import { LocalStore } from '../../../src/xet/store/local-store.ts';
import { fetchFiles } from '../../../src/xet/transfer/fetch.ts';
import { pushFiles } from '../../../src/xet/transfer/push.ts';
import { SteppedStore } from './stepped-store.ts';

const [what, root, other, hashes, lastStep] = process.argv.slice(2) as [
  string,
  string,
  string,
  string,
  string,
];
let step = 0;
const onStep = () => {
  if (step++ === Number(lastStep)) process.kill(process.pid, 'SIGKILL');
};
const remote = new SteppedStore(DirectoryStore.open(other, { fsync: 'none' }), onStep);
const files = (JSON.parse(hashes) as string[]).map((hash) => ({ hash: parseHash(hash) }));
const local = new LocalStore(root);
const result =
  what === 'fetch'
    ? await fetchFiles(local, remote, files, { writer: { fsync: 'none' }, onFile: onStep })
    : await pushFiles(local, remote, files, { onFile: onStep });
await remote[Symbol.asyncDispose]();
process.stdout.write(
  `${JSON.stringify({ steps: step, ...remote.moved, failed: result.files.filter((f) => f.error).length })}\n`,
);
