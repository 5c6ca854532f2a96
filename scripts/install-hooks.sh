#!/bin/sh
# Sets git up for git2db without Node: the same configuration and the same pre-push hook as
# `git2db xet install`, written with plain `git config`. For provisioning scripts, container images
# and dotfiles. Keep it equal to src/large-files/{install,lfs-install,hook-files}.ts.
set -eu

usage() {
  cat <<'USAGE'
Usage: install-hooks.sh [--local|--global|--system] [--lfs] [--force]
                        [--no-hooks|--chain-hooks] [--quiet]
       install-hooks.sh --uninstall [--local|--global|--system] [--lfs] [--quiet]

Tells git to run git2db-filter for files with filter=xet in .gitattributes.
May be run again at any time. A value that something else wrote is never
replaced without --force, and never removed.

With --local it also installs the pre-push hook, which sends the content of
large files before refs move. Another pre-push hook is never overwritten.
Hooks belong to single repositories, so --global and --system install none,
unless git is 2.54 or newer and takes hooks from the configuration.

  --local        this repository only
  --global       this user (the default)
  --system       every user of this machine
  --lfs          serve files with filter=lfs too: what git-lfs has in the
                 configuration and in the hooks is replaced, and comes back
                 with --uninstall
  --force        replace values that something else wrote
  --no-hooks     leave hooks alone
  --chain-hooks  keep a pre-push hook that is there, and run it after ours
  --uninstall    remove what this script (or "git2db xet install") wrote;
                 with --lfs, only what --lfs did
  --quiet        print errors and warnings only
  --help         show this text

Exit codes:
  0  Done
  2  Wrong usage
  4  --local outside a git repository
  5  git failed; its message says why
  6  git is not on PATH
  8  Refused: a key holds a value, or a hook stands there, that something
     else wrote; nothing was changed
USAGE
}

# key <tab> value, one a line: what is written.
settings() {
  printf '%s\t%s\n' \
    filter.xet.process git2db-filter \
    filter.xet.required true \
    diff.xet.wordRegex '[0-9a-f]{64}|[0-9]+|[a-z_]+|[^[:space:]]'
}

# Keys that git would use instead of, or beside, the process: they must not be set.
rivals() {
  printf '%s\n' filter.xet.clean filter.xet.smudge
}

# As settings, with --lfs; a key without a value must not be set.
lfs_settings() {
  printf '%s\t%s\n' \
    filter.lfs.process git2db-lfs-filter \
    filter.lfs.required true \
    filter.lfs.clean '' \
    filter.lfs.smudge ''
}

tab='	'
newline='
'

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

unset_all() {
  git config "$scope" --unset-all "$1" || exit 5
}

# What stands in the way, one line for each key.
foreign_values() {
  settings | while IFS=$tab read -r key value; do
    found=$(values_of "$key")
    if [ -n "$found" ] && [ "$found" != "$value" ]; then
      printf '  %s = %s\n' "$key" "$found"
    fi
  done
  rivals | while read -r key; do
    found=$(values_of "$key")
    [ -z "$found" ] || printf '  %s = %s\n' "$key" "$found"
  done
}

# Values that neither git-lfs, in any version, nor git2db wrote.
foreign_lfs_values() {
  lfs_settings | while IFS=$tab read -r key value; do
    [ "$key" != filter.lfs.required ] || continue
    values_of "$key" | while IFS= read -r found; do
      [ "$found" != "$value" ] || continue
      printf '%s\n' "$found" | grep -Eq '^git[- ]lfs (filter-process|clean|smudge)( --skip)?( --)?( %f)?$' ||
        printf '  %s = %s\n' "$key" "$found"
    done
  done
}

# ---- hooks -----------------------------------------------------------------------------------

mark='# Written by "git2db xet install"'
hook_command='git2db xet hook pre-push'
# Those of git-lfs. Ours does the work of the first; the others serve its file locks.
lfs_hooks() {
  printf '%s\n' pre-push post-checkout post-commit post-merge
}

hook_text() {
  cat <<TEXT
#!/bin/sh
$mark: sends the content of large files before the refs move.
command -v git2db >/dev/null 2>&1 || {
  echo >&2 "git2db is not on PATH, so the content of large files cannot be sent: nothing is pushed."
  echo >&2 "Put git2db on PATH, or remove this hook: \$0"
  exit 1
}
TEXT
  if [ -e "$hooks/pre-push.chained" ]; then
    cat <<TEXT
lines=\$(cat)
give() { [ -z "\$lines" ] || printf "%s\\n" "\$lines"; }
give | $hook_command "\$@" || exit
give | "\$(dirname "\$0")"/pre-push.chained "\$@"
TEXT
  else
    printf 'exec %s "$@"\n' "$hook_command"
  fi
}

# All versions of git-lfs have written the same few lines.
is_git_lfs_hook() {
  awk -v name="$1" '
    { gsub(/^[ \t\r]+|[ \t\r]+$/, ""); lines[++count] = $0 }
    END {
      first = 1
      while (first <= count && lines[first] == "") first++
      while (count >= first && lines[count] == "") count--
      if (count - first < 1 || count - first > 2 || lines[first] != "#!/bin/sh") exit 1
      command = lines[count]
      known = command == "git lfs " name " \"$@\""
      if (name == "pre-push" && command == "git lfs push --stdin $*") known = 1
      if (name == "pre-push" && command == "git lfs push --stdin \"$@\"") known = 1
      if (!known) exit 1
      test = "^command -v git-lfs >/dev/null 2>&1 [|][|] [{] echo >&2 \"[^\"`$]*\"; exit [02]; [}]$"
      if (count - first == 2 && lines[first + 1] !~ test) exit 1
    }' "$hooks/$1"
}

# missing, ours, git-lfs or foreign.
hook_state() {
  if [ ! -e "$hooks/$1" ] && [ ! -L "$hooks/$1" ]; then
    echo missing
  elif [ -f "$hooks/$1" ] && sed -n 2p "$hooks/$1" | grep -q "^$mark"; then
    echo ours
  elif [ -f "$hooks/$1" ] && is_git_lfs_hook "$1"; then
    echo git-lfs
  else
    echo foreign
  fi
}

# Standard input becomes the hook $1.
write_hook() {
  mkdir -p "$hooks"
  cat >"$hooks/$1.git2db-$$" && chmod 755 "$hooks/$1.git2db-$$" && mv -f "$hooks/$1.git2db-$$" "$hooks/$1" || exit 5
}

# For uninstall: the text of a hook, to its last line break.
remember_hook() {
  text=$(cat "$hooks/$1" && echo x)
  git config --local "git2db.replaced.hooks.$1" "${text%x}" || exit 5
}

# Git 2.54 and newer take hooks from the configuration.
has_configured_hooks() {
  version=$(git version)
  version=${version#git version }
  minor=${version#*.}
  minor=${minor%%[!0-9]*}
  [ "${version%%.*}" -gt 2 ] || { [ "${version%%.*}" -eq 2 ] && [ "$minor" -ge 54 ]; }
}

check_hooks() {
  [ "$scope" = --local ] && ! has_configured_hooks || return 0
  case $(hook_state pre-push) in
    git-lfs)
      [ -n "$lfs" ] || fail 8 "the hook $hooks/pre-push is that of git-lfs:
--lfs puts ours in its place, which serves pointers of both kinds; --no-hooks leaves it"
      ;;
    foreign)
      [ -n "$chain" ] || fail 8 "the hook $hooks/pre-push was not written by git2db:
--chain-hooks keeps it and runs it after ours; or put this line into it, and use --no-hooks: $hook_command \"\$@\""
      ;;
  esac
}

install_hooks() {
  if has_configured_hooks; then
    if [ "$scope" = --local ]; then remove_hook_files; fi
    [ "$(values_of hook.git2db-xet.command)" = "$hook_command" ] ||
      git config "$scope" --replace-all hook.git2db-xet.command "$hook_command" || exit 5
    [ "$(values_of hook.git2db-xet.event)" = pre-push ] ||
      git config "$scope" --replace-all hook.git2db-xet.event pre-push || exit 5
    return
  fi
  if [ "$scope" != --local ]; then
    say "no pre-push hook was installed: hooks belong to single repositories; run this with --local in each that pushes"
    return
  fi
  case $(hook_state pre-push) in
    git-lfs) remember_hook pre-push ;;
    foreign) mv "$hooks/pre-push" "$hooks/pre-push.chained" || exit 5 ;;
  esac
  if [ "$(hook_state pre-push)" != ours ] || [ "$(hook_text)" != "$(cat "$hooks/pre-push")" ]; then
    hook_text | write_hook pre-push
  fi
  if [ -n "$lfs" ]; then remove_hook_files; fi
}

# Those of git-lfs with --lfs, and a file of ours that a hook in the configuration stands for.
remove_hook_files() {
  lfs_hooks | while read -r name; do
    state=$(hook_state "$name")
    if [ "$state" = git-lfs ] && [ -n "$lfs" ]; then
      remember_hook "$name"
      rm -f "$hooks/$name"
    elif [ "$state" = ours ] && has_configured_hooks; then
      rm -f "$hooks/$name"
    fi
  done
}

uninstall_hooks() {
  if [ -z "$lfs" ]; then
    for key in hook.git2db-xet.command hook.git2db-xet.event; do
      [ -z "$(values_of "$key")" ] || unset_all "$key"
    done
  fi
  [ "$scope" = --local ] || return 0
  lfs_hooks | while read -r name; do
    state=$(hook_state "$name")
    before=$(git config --local --get "git2db.replaced.hooks.$name" && echo x) || before=
    before=${before%x}
    before=${before%"$newline"}
    if [ -n "$before" ] && { [ "$state" = missing ] || [ "$state" = ours ]; }; then
      printf '%s' "$before" | write_hook "$name"
    elif [ "$state" = ours ] && [ -z "$lfs" ]; then
      rm -f "$hooks/$name"
      [ ! -e "$hooks/$name.chained" ] || mv "$hooks/$name.chained" "$hooks/$name"
    fi
    [ -z "$before" ] || git config --local --unset-all "git2db.replaced.hooks.$name" || exit 5
  done
}

# ---- configuration ---------------------------------------------------------------------------

install() {
  foreign=$(foreign_values)
  if [ -n "$foreign" ] && [ -z "$force" ]; then
    fail 8 "the $scope_name configuration already holds
$foreign
which git2db did not write; --force replaces it"
  fi
  if [ -n "$lfs" ]; then
    foreign=$(foreign_lfs_values)
    if [ -n "$foreign" ] && [ -z "$force" ]; then
      fail 8 "the $scope_name configuration already holds
$foreign
which neither git-lfs nor git2db wrote; --force replaces it"
    fi
  fi
  # Lists with || would keep the shell from ending where something in them fails.
  if [ -z "$no_hooks" ]; then check_hooks; fi
  rivals | while read -r key; do
    [ -z "$(values_of "$key")" ] || unset_all "$key"
  done
  settings | while IFS=$tab read -r key value; do
    [ "$(values_of "$key")" = "$value" ] || git config "$scope" --replace-all "$key" "$value" || exit 5
  done
  if [ -n "$lfs" ]; then install_lfs; fi
  if [ -z "$no_hooks" ]; then install_hooks; fi
  say "git2db is installed in the $scope_name git configuration"
  warn_missing git2db-filter xet
  if [ -n "$lfs" ]; then warn_missing git2db-lfs-filter lfs; fi
}

warn_missing() {
  command -v "$1" >/dev/null 2>&1 || printf '%s\n' \
    "install-hooks.sh: warning: $1 is not on PATH, and git will fail on files with filter=$2" \
    'until it is; put the folder that holds it on PATH' >&2
}

# What stood there is remembered under git2db.replaced.
install_lfs() {
  process=$(values_of filter.lfs.process)
  lfs_settings | while IFS=$tab read -r key value; do
    found=$(values_of "$key")
    if [ -n "$found" ] && { [ "$found" != "$value" ] || [ "$process" != git2db-lfs-filter ]; }; then
      [ -z "$(values_of "git2db.replaced.$key")" ] || unset_all "git2db.replaced.$key"
      printf '%s\n' "$found" | while IFS= read -r each; do
        git config "$scope" --add "git2db.replaced.$key" "$each" || exit 5
      done
      case $found in
        *' --skip'*)
          printf '%s\n' 'install-hooks.sh: warning: git-lfs was installed with --skip-smudge here, and contents are written at' \
            'checkout from now on; "git2db xet install --skip-smudge" keeps pointers' >&2
          ;;
      esac
    fi
    if [ "$found" = "$value" ]; then
      continue
    elif [ -z "$value" ]; then
      unset_all "$key"
    else
      git config "$scope" --replace-all "$key" "$value" || exit 5
    fi
  done
}

uninstall() {
  if [ -z "$lfs" ]; then
    settings | while IFS=$tab read -r key value; do
      found=$(values_of "$key")
      if [ "$found" = "$value" ]; then
        unset_all "$key"
      elif [ -n "$found" ]; then
        warn_kept "$key" "$found"
      fi
    done
  fi
  uninstall_lfs
  uninstall_hooks
  say "git2db is no longer in the $scope_name git configuration"
}

warn_kept() {
  printf '%s\n' "install-hooks.sh: warning: $1 = $2 is not what git2db writes: left alone" >&2
}

# What was not ours to begin with, or was taken over by something since, stays as it is.
uninstall_lfs() {
  process=$(values_of filter.lfs.process)
  lfs_settings | while IFS=$tab read -r key value; do
    found=$(values_of "$key")
    before=$(values_of "git2db.replaced.$key")
    if [ "$process" = git2db-lfs-filter ]; then
      if [ "$found" = "$value" ]; then
        [ -z "$found" ] || unset_all "$key"
        [ -z "$before" ] || printf '%s\n' "$before" | while IFS= read -r each; do
          git config "$scope" --add "$key" "$each" || exit 5
        done
      elif [ -n "$found" ]; then
        warn_kept "$key" "$found"
      fi
    fi
    [ -z "$before" ] || unset_all "git2db.replaced.$key"
  done
}

scope=
action=install
force=
lfs=
no_hooks=
chain=
quiet=
hooks=
for argument; do
  case $argument in
    --local | --global | --system)
      [ -z "$scope" ] || [ "$scope" = "$argument" ] || fail 2 "$scope and $argument exclude each other"
      scope=$argument
      ;;
    --uninstall) action=uninstall ;;
    --force) force=1 ;;
    --lfs) lfs=1 ;;
    --no-hooks) no_hooks=1 ;;
    --chain-hooks) chain=1 ;;
    --quiet) quiet=1 ;;
    --help)
      usage
      exit 0
      ;;
    *) fail 2 "unknown argument '$argument'; --help lists the options" ;;
  esac
done
if [ "$action" = uninstall ] && [ -n "$force$no_hooks$chain" ]; then
  fail 2 '--force, --no-hooks and --chain-hooks are for installing, and exclude --uninstall'
fi
if [ -n "$no_hooks" ] && [ -n "$chain" ]; then
  fail 2 '--no-hooks and --chain-hooks exclude each other'
fi
scope=${scope:---global}
scope_name=${scope#--}
command -v git >/dev/null 2>&1 || fail 6 'git is not on PATH'
if [ "$scope" = --local ] && ! git rev-parse --git-dir >/dev/null 2>&1; then
  fail 4 '--local works inside a git repository only'
fi
if [ "$scope" = --local ]; then
  hooks=$(git rev-parse --git-path hooks) || exit 5
fi
$action
