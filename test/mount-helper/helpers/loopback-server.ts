/** The server process of `Loopback`: ours in all but the file system. */
import { runServer } from '../../../src/mount-helper/fuse/server.ts';

runServer(new URL('./loopback-worker.js', import.meta.url));
