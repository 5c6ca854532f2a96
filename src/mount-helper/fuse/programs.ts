/**
 * Where the programs of the server are: in the package as single files beside the commands, and while it
 * is tested as modules beside this one.
 */
import { existsSync } from 'node:fs';

function find(bundled: string, module: string): URL {
  // From a bundle this is dist/bin, from the library's modules dist/mount-helper/fuse.
  const places = [`./${bundled}`, `../../bin/${bundled}`, `./${module}`];
  const found = places.map((place) => new URL(place, import.meta.url)).find((url) => existsSync(url));
  if (found === undefined) throw new Error(`${bundled} is missing: the package is not complete`);
  return found;
}

/** The program of the server process. */
export function serverProgram(): URL {
  return find('fuse-server.js', 'server-process.js');
}

/** The module of its serving thread. */
export function loopProgram(): URL {
  return find('fuse-loop.js', 'loop-worker.js');
}
