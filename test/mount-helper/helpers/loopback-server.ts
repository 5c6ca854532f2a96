/** The server process of `Loopback`: ours in all but the file system. */
import { runServer } from '../../../src/mount-helper/fuse/server.ts';
import { startServingThread } from '../../../src/mount-helper/fuse/serving-thread.ts';

runServer(startServingThread(new URL('./loopback-worker.js', import.meta.url)));
