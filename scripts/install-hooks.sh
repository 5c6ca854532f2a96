#!/bin/sh
# Sets git up for git2db without Node: the same configuration as `git2db xet install`, written with
# plain `git config`. For provisioning scripts, container images and dotfiles.
set -eu

usage() {
  cat <<'USAGE'
Usage: install-hooks.sh [--local|--global|--system] [--force] [--quiet]
       install-hooks.sh --uninstall [--local|--global|--system] [--quiet]

Tells git to run git2db-filter for files with filter=xet in .gitattributes.
May be run again at any time. A value that something else wrote is never
replaced without --force, and never removed.

  --local      this repository only
  --global     this user (the default)
  --system     every user of this machine
  --force      replace values that something else wrote
  --uninstall  remove what this script (or "git2db xet install") wrote
  --quiet      print errors and warnings only
  --help       show this text

Exit codes:
  0  Done
  2  Wrong usage
  4  --local outside a git repository
  5  git failed; its message says why
  6  git is not on PATH
  8  Refused: a key holds a value that something else wrote
USAGE
}

# key <tab> value, one a line: what is written. Keep equal to src/large-files/install.ts.
settings() {
  printf '%s\t%s\n' \
    filter.xet.process git2db-filter \
    filter.xet.required true \
    diff.xet.wordRegex '[0-9a-f]{64}|[0-9]+|[a-z_]+|[^[:space:]]'
}

# Keys that git would use instead of, or beside, the process: they must not be set.
rivals='filter.xet.clean filter.xet.smudge'

say() {
  [ -n "$quiet" ] || printf '%s\n' "$*"
}

fail() {
  code=$1
  shift
  printf 'install-hooks.sh: %s\n' "$*" >&2
  exit "$code"
}

# All values of a key in the chosen file, one a line; nothing when it is unset.
values_of() {
  git config "$scope" --get-all "$1" || [ $? -eq 1 ] || exit 5
}

# What stands in the way, one line for each key.
foreign_values() {
  settings | while IFS='	' read -r key value; do
    found=$(values_of "$key")
    if [ -n "$found" ] && [ "$found" != "$value" ]; then
      printf '  %s = %s\n' "$key" "$found"
    fi
  done
  for key in $rivals; do
    found=$(values_of "$key")
    [ -z "$found" ] || printf '  %s = %s\n' "$key" "$found"
  done
}

install() {
  foreign=$(foreign_values)
  if [ -n "$foreign" ] && [ -z "$force" ]; then
    fail 8 "the $scope_name configuration already holds
$foreign
which git2db did not write; --force replaces it"
  fi
  for key in $rivals; do
    [ -z "$(values_of "$key")" ] || git config "$scope" --unset-all "$key" || exit 5
  done
  settings | while IFS='	' read -r key value; do
    [ "$(values_of "$key")" = "$value" ] || git config "$scope" --replace-all "$key" "$value" || exit 5
  done
  say "git2db is installed in the $scope_name git configuration"
  if ! command -v git2db-filter >/dev/null 2>&1; then
    printf '%s\n' \
      'install-hooks.sh: warning: git2db-filter is not on PATH, and git will fail on files with filter=xet' \
      'until it is; put the folder that holds it on PATH' >&2
  fi
}

uninstall() {
  settings | while IFS='	' read -r key value; do
    found=$(values_of "$key")
    if [ "$found" = "$value" ]; then
      git config "$scope" --unset-all "$key" || exit 5
    elif [ -n "$found" ]; then
      printf '%s\n' "install-hooks.sh: warning: $key = $found is not what git2db writes: left alone" >&2
    fi
  done
  say "git2db is no longer in the $scope_name git configuration"
}

scope=
action=install
force=
quiet=
for argument; do
  case $argument in
    --local | --global | --system)
      [ -z "$scope" ] || [ "$scope" = "$argument" ] || fail 2 "$scope and $argument exclude each other"
      scope=$argument
      ;;
    --uninstall) action=uninstall ;;
    --force) force=1 ;;
    --quiet) quiet=1 ;;
    --help)
      usage
      exit 0
      ;;
    *) fail 2 "unknown argument '$argument'; --help lists the options" ;;
  esac
done
if [ "$action" = uninstall ] && [ -n "$force" ]; then
  fail 2 '--force and --uninstall exclude each other'
fi
scope=${scope:---global}
scope_name=${scope#--}
command -v git >/dev/null 2>&1 || fail 6 'git is not on PATH'
if [ "$scope" = --local ] && ! git rev-parse --git-dir >/dev/null 2>&1; then
  fail 4 '--local works inside a git repository only'
fi
$action
