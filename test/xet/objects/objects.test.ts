import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DirectoryObjects } from '../../../src/xet/objects/directory.ts';
import { MemoryObjects } from '../../../src/xet/objects/memory.ts';
import { objectContract } from './object-contract.ts';

objectContract('memory', { open: async () => new MemoryObjects() });
objectContract('directory', {
  async open(t) {
    const directory = mkdtempSync(join(tmpdir(), 'git2db-objects-'));
    t.teardown(() => rmSync(directory, { recursive: true, force: true }));
    return DirectoryObjects.open(directory);
  },
});
