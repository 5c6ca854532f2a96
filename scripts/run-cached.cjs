// Becomes NAME.js in dist/bin, and runs NAME-core.js beside it. Compiling that takes longer than all that
// many a run does, so the build has left what the engine makes of it in NAME-core.cache. The engine takes
// no cache of another version or with other flags, and compiles as ever. The build has made a function of
// NAME-core.js, in ASCII: decoding a megabyte, and copying it to put something around it, takes longer than reading it.
const { readFileSync } = require('node:fs');
const { Script } = require('node:vm');

const core = `${__filename.slice(0, -3)}-core`;

function readCache() {
  try {
    return readFileSync(`${core}.cache`);
  } catch {
    return undefined;
  }
}

const script = new Script(readFileSync(`${core}.js`).latin1Slice(), {
  filename: `${core}.js`,
  cachedData: readCache(),
});
script.runInThisContext()(exports, require, module, __filename, __dirname);
