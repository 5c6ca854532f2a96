/** Clones, and dies on the way: `killed-clone.js <registry> <url> <stage> <options as JSON>`. */
import type { CloneOptions } from '../../src/registry/clone.ts';
import { resolveConfig } from '../../src/registry/config.ts';
import { GitManager } from '../../src/registry/git-manager.ts';
import { Git2DB } from '../../src/registry/git2db.ts';

const [root, url, stage, options] = process.argv.slice(2) as [string, string, string, string];
const { config } = resolveConfig({ cwd: root, env: process.env });
const registry = await Git2DB.open(root, { config, manager: new GitManager({ config }) });
await registry.clone(url, {
  ...(JSON.parse(options) as CloneOptions),
  progress: (event) => {
    if (event.kind === 'stage' && event.stage === stage) process.kill(process.pid, 'SIGKILL');
  },
});
