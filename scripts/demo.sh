#!/bin/sh
# A tour in half a minute: two versions of a large file through git2db, a clone, and what was saved.
# Works in a temporary directory with a HOME of its own and removes both. DEMO_MB sets the size (200).
set -eu

top=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
size_mb=${DEMO_MB:-200}
work=$(mktemp -d "${TMPDIR:-/tmp}/git2db-demo.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

say() {
  printf '\n== %s\n' "$*"
}

fail() {
  printf 'demo: %s\n' "$*" >&2
  exit 1
}

run() {
  printf '$ %s\n' "$*"
  "$@"
}

if [ ! -f "$top/dist/bin/git2db.js" ] || [ ! -f "$top/dist/bin/git2db-filter.js" ]; then
  say 'Building git2db first'
  (cd "$top" && node scripts/build.mjs)
fi

# ---- set-up: programs on PATH, a git without anybody's configuration --------------------------
mkdir "$work/bin" "$work/home"
ln -s "$top/dist/bin/git2db.js" "$work/bin/git2db"
ln -s "$top/dist/bin/git2db-filter.js" "$work/bin/git2db-filter"
PATH="$work/bin:$PATH"
HOME="$work/home"
XDG_CONFIG_HOME="$HOME/.config"
GIT_CONFIG_NOSYSTEM=1
export PATH HOME XDG_CONFIG_HOME GIT_CONFIG_NOSYSTEM
for name in $(git rev-parse --local-env-vars); do unset "$name"; done
unset GIT2DB_SKIP_SMUDGE
git config --global user.name demo
git config --global user.email demo@example.org
git config --global init.defaultBranch main

# The same bytes at every run: AES in counter mode. The second version has 1 MiB put in at 30 %.
cat > "$work/generate.mjs" <<'NODE'
import { createCipheriv } from 'node:crypto';
import { closeSync, openSync, writeSync } from 'node:fs';

const MIB = 1 << 20;
const [, , path, megabytes, version] = process.argv;
const total = Math.round(Number(megabytes) * 1e6);
const bytes = (seed) => createCipheriv('aes-128-ctr', Buffer.alloc(16, seed), Buffer.alloc(16));
const content = bytes(1);
const fd = openSync(path, 'w');
const write = (cipher, length) => {
  for (let left = length; left > 0; left -= MIB) writeSync(fd, cipher.update(Buffer.alloc(Math.min(left, MIB))));
};
const before = Math.floor(total * 0.3);
write(content, before);
if (version === '2') write(bytes(2), MIB);
write(content, total - before);
closeSync(fd);
NODE

# Apparent sizes, and the table made of them.
cat > "$work/table.mjs" <<'NODE'
import { lstatSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

const bytesUnder = (path) => {
  const stat = lstatSync(path);
  if (!stat.isDirectory()) return stat.size;
  return readdirSync(path).reduce((sum, name) => sum + bytesUnder(join(path, name)), 0);
};
const [, , work] = process.argv;
const first = bytesUnder(join(work, 'model-1'));
const second = bytesUnder(join(work, 'model-2'));
const git = bytesUnder(join(work, 'models/.git'));
const store = bytesUnder(join(work, 'models/.git/xet'));
const logical = first + second;
const rows = [
  ['version 1', first],
  ['version 2', second],
  ['both versions', logical],
  ['the store', store],
  ['.git without the store', git - store],
  ['saved', logical - git],
];
console.log();
for (const [name, bytes] of rows) {
  const share = `${((100 * bytes) / logical).toFixed(1)} %`;
  console.log(`  ${name.padEnd(24)} ${(bytes / 1e6).toFixed(2).padStart(9)} MB  ${share.padStart(7)}`);
}
NODE

# ---- the tour --------------------------------------------------------------------------------
say "A file of $size_mb MB, and a second version with 1 MiB put in at 30 %"
node "$work/generate.mjs" "$work/model-1" "$size_mb" 1
node "$work/generate.mjs" "$work/model-2" "$size_mb" 2

say 'Tell git about the filter once, and which files are large'
run git2db xet install
git init -q "$work/models"
cd "$work/models"
run git2db xet track '*.safetensors'

say 'Commit both versions'
cp "$work/model-1" model.safetensors
run git add .
run git commit -q -m 'version 1'
cp "$work/model-2" model.safetensors
run git add .
run git commit -q -m 'version 2'
printf '\nWhat git keeps:\n'
git show HEAD:model.safetensors

say 'Clone, and look at both versions there'
cd "$work"
run git clone -q models clone
cd clone
run cmp model.safetensors "$work/model-2" || fail 'version 2 differs in the clone'
run git checkout -q HEAD~1
run cmp model.safetensors "$work/model-1" || fail 'version 1 differs in the clone'
[ -z "$(git status --porcelain)" ] || fail 'the clone looks modified'
run git2db xet ls-files

say 'What was saved'
node "$work/table.mjs" "$work"
