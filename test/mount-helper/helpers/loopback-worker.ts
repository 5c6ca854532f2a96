/** The serving thread of a server that shows the first lower as it is. */
import { serveInWorker } from '../../../src/mount-helper/fuse/worker.ts';
import { Loopback } from './loopback.ts';

serveInWorker(({ options }, { waiting }) => new Loopback(options.lowers[0]!, { waiting }));
