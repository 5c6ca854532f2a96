/** The server process with a thread that dies. */
import { runServer } from '../../../src/mount-helper/fuse/server.ts';

runServer(new URL('./dying-worker.js', import.meta.url));
