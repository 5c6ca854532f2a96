/** The serving thread of our overlay: the module that `server-process.ts` starts it with. */
import { openOverlay, openOwnDirectory } from './open-overlay.ts';
import { serveInWorker } from './worker.ts';

serveInWorker(openOverlay, openOwnDirectory);
