// For scripts/build.mjs: leaves NAME-core.cache beside each NAME-core.js for scripts/run-cached.cjs.
//
//   make-cache.cjs FILE...          what the engine makes of a file before it runs
//   make-cache.cjs --all FILE...    all functions, and not only those that run first: for a server, which
//                                   needs most of them with its first requests
//   make-cache.cjs --load FILE...   the functions that loading it needs: for a library
//   make-cache.cjs --try DIR COMMANDS MAIN FILE...
//                                   the functions that COMMANDS (lists of words, as JSON) of the program MAIN
//                                   need, which are run in DIR; FILE are what MAIN may load
const fs = require('node:fs');
const { createRequire } = require('node:module');
const { basename, dirname } = require('node:path');
const v8 = require('node:v8');
const { Script } = require('node:vm');

const { readFileSync, writeFileSync } = fs;
const { setFlagsFromString } = v8;

function compile(file) {
  return new Script(readFileSync(file, 'latin1'), { filename: file });
}

function leave(file, script) {
  writeFileSync(file.replace(/\.js$/, '.cache'), script.createCachedData());
}

const [mode, ...words] = process.argv.slice(2);
if (mode === '--try') {
  const [directory, commands, main, ...others] = words;
  tryOut(directory, JSON.parse(commands), main, others);
} else if (mode === '--all') {
  for (const file of words) {
    // The flags at the end, not those of compiling, are what the cache is good for.
    setFlagsFromString('--no-lazy');
    const script = compile(file);
    setFlagsFromString('--lazy');
    leave(file, script);
  }
} else if (mode === '--load') {
  for (const file of words) {
    const script = compile(file);
    const module = { exports: {} };
    script.runInThisContext()(module.exports, createRequire(file), module, file, dirname(file));
    leave(file, script);
  }
} else {
  for (const file of [mode, ...words]) leave(file, compile(file));
}

function tryOut(directory, commands, main, others) {
  const scripts = new Map([main, ...others].map((file) => [file, compile(file)]));
  const loaded = new Map();
  const fromHere = createRequire(main);
  const requireCached = (name) => {
    const file = [...scripts.keys()].find((each) => basename(each) === `${basename(name, '.js')}-core.js`);
    if (file === undefined || !name.startsWith('./')) return fromHere(name);
    if (!loaded.has(file)) loaded.set(file, run(file));
    return loaded.get(file);
  };
  function run(file) {
    const module = { exports: {} };
    const program = file.replace('-core.js', '.js');
    scripts.get(file).runInThisContext()(module.exports, requireCached, module, program, dirname(program));
    return module.exports;
  }
  process.on('exit', () => {
    for (const [file, script] of scripts) leave(file, script);
    // What cannot be tried here (there is no git) is compiled when it is needed.
    process.exitCode = 0;
  });
  process.chdir(directory);
  // A program may set flags when it has been there for a while, and with others than a start has, no start would take
  // what is left here.
  v8.setFlagsFromString = () => {};
  const left = [...commands];
  const end = process.exit;
  const ended = Symbol('ended');
  // A program begins when it is loaded, and has come to its end when it says so or nothing is left to wait for.
  const next = () => {
    const command = left.shift();
    if (command === undefined) end();
    process.argv = [process.execPath, main, ...command];
    // From within the loop: what only takes microtasks would not keep it going.
    setImmediate(run, main);
  };
  process.exit = () => {
    throw ended;
  };
  // Who wants the words as bytes reads them there.
  fs.readFileSync = (file, ...options) =>
    file === '/proc/self/cmdline'
      ? Buffer.from(`${process.argv.join('\0')}\0`)
      : readFileSync(file, ...options);
  for (const event of ['uncaughtException', 'unhandledRejection']) {
    process.on(event, (error) => {
      if (error !== ended) throw error;
    });
  }
  process.on('beforeExit', next);
  next();
}
