/** The program that serves one FUSE mount; started by `start.ts`. */
import { loopProgram } from './programs.ts';
import { runServer } from './server.ts';

runServer(loopProgram());
