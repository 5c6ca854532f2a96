/** The server process with a thread that dies. */
import { runServer } from '../../../src/mount-helper/fuse/server.ts';
import { startServingThread } from '../../../src/mount-helper/fuse/serving-thread.ts';

runServer(startServingThread(new URL('./dying-worker.js', import.meta.url)));
