// For scripts/build.mjs: leaves NAME-core.cache beside each NAME-core.js for scripts/run-cached.cjs. With
// `--all` it has all functions, and not only those that run first: for a server, which needs most of them
// with its first requests.
const { readFileSync, writeFileSync } = require('node:fs');
const { setFlagsFromString } = require('node:v8');
const { Script } = require('node:vm');

const words = process.argv.slice(2);
const withAll = words[0] === '--all';
for (const file of withAll ? words.slice(1) : words) {
  // The flags at the end, not those of compiling, are what the cache is good for.
  if (withAll) setFlagsFromString('--no-lazy');
  const script = new Script(
    `(function (exports, require, module, __filename, __dirname) {${readFileSync(file, 'utf8')}\n})`,
    { filename: file },
  );
  if (withAll) setFlagsFromString('--lazy');
  writeFileSync(file.replace(/\.js$/, '.cache'), script.createCachedData());
}
