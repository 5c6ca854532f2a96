/** Another process on a registry: says how long it took to open it, then changes what it is told to. */
import { Git2DB } from '../../src/registry/git2db.ts';

const root = process.argv[2]!;
const start = performance.now();
const db = await Git2DB.open(root);
const count = db.list().length;
const took = performance.now() - start;

process.on('message', (message) => {
  const { name, note } = message as { name: string; note: string };
  const changed = db.update(name, { metadata: { ...db.byName(name).metadata, note } });
  changed.then(
    () => process.send!({ done: true }),
    (error: unknown) => {
      process.stderr.write(`${String(error)}\n`);
      process.exit(1);
    },
  );
});
process.on('disconnect', () => process.exit());
process.send!({ took, count });
