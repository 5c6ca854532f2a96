/** What `git2db serve` loads when it runs: a bundle of its own, as no other command needs it. */
export { loadFilterConfig } from '../filter-process/config.ts';
export { createRepository } from '../server/git/repositories.ts';
export { deriveKeys, loadKeyFile } from '../server/keys.ts';
export { openServedStore } from '../server/open-store.ts';
export { startServer } from '../server/server.ts';
export { checkPattern, makeToken, parseDuration } from '../server/token.ts';
