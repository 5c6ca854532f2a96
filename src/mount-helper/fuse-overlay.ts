/** Our own overlay over FUSE: a server process per mount. */
import { join } from 'node:path';
import type { MountBackend } from './backend.ts';
import type { ServerRequest } from './fuse/handover.ts';
import { startFuse } from './fuse/start.ts';
import { checkFuse } from './fuse-requirements.ts';
import type { MountOptions } from './mount-options.ts';
import { removeVolatileMark } from './overlay/volatile-mark.ts';
import { openWorkDirectory } from './overlay/work-directory.ts';
import { checkMergedOutsideLowers } from './preparation.ts';
import { ensurePrivateDirectory } from './record-places.ts';

export const fuseBackend: MountBackend = {
  name: 'fuse',
  check({ caller, options, env }, directories) {
    checkFuse({ caller, allowOther: options.allowOther === true, searchPath: env.PATH ?? '' });
    checkMergedOutsideLowers(directories);
  },
  async mount({ options, namespace, holdDescriptors, recordFile, places, env, serveHere }) {
    ensurePrivateDirectory(places.runtime);
    const { foreground } = options;
    const hold = holdDescriptors === undefined ? {} : { hold: holdDescriptors };
    const request: ServerRequest = { options, namespace, recordFile, foreground, ...hold };
    const logFile = env.GIT2DB_LOG_FILE || join(places.runtime, 'fuse.log');
    try {
      if (foreground) return await startFuse(request);
      if (serveHere === undefined) return { pid: (await startFuse({ ...request, logFile })).pid };
      await serveHere(request, logFile);
      return { pid: process.pid, isServedHere: true };
    } catch (error) {
      clearWork(options);
      throw error;
    }
  },
};

/** What a server has begun that ended, in whatever way, before its mount was there. */
function clearWork({ work, readOnly, volatile }: MountOptions): void {
  if (work === undefined || readOnly) return;
  try {
    const directory = openWorkDirectory(work);
    if (volatile) removeVolatileMark(directory.base);
    directory.close();
  } catch {
    // The reason why there is no mount is also why this fails, and is what has to be told.
  }
}
