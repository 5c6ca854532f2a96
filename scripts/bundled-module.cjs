// In the programs of dist/bin this stands for node:module, of which they want no more: a program is CommonJS and has
// a `require` that finds what it is to find, and node:module takes Node a millisecond to load.
exports.createRequire = () => require;
