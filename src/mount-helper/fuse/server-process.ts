/** The program that serves one FUSE mount; started by `start.ts`. */
import { loopProgram } from './programs.ts';
import { startServingThread } from './serving-thread.ts';

const thread = startServingThread(loopProgram());
// Beside that thread, which begins meanwhile.
void import('./server.ts').then(({ runServer }) => runServer(thread));
