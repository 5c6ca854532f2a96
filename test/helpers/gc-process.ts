/**
 * A gc that may be killed, as a process of its own: argument 1 is the store, 2 the file hashes that are
 * referred to (JSON), 3 the number of the step after which it ends by SIGKILL.
 */
import { collectGarbage } from '../../src/xet/store/gc/collect.ts';

const [root, files, lastStep] = process.argv.slice(2) as [string, string, string];
let step = 0;

await collectGarbage(
  root,
  async () => ({ files: new Set(JSON.parse(files) as string[]), sha256s: new Set() }),
  {
    prune: true,
    graceMs: 0,
    waitMs: 5000,
    repack: true,
    fsync: 'none',
    warn: () => {},
    checkpoint: () => {
      if (step++ === Number(lastStep)) process.kill(process.pid, 'SIGKILL');
    },
  },
);
