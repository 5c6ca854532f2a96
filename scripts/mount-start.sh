# A mount by FUSE takes one start of Node instead of two if whoever makes it goes on to serve it. The shell does not
# wait for the end of such a process, only until it closes descriptor 3, having said there with what status to exit.
# Which command is such a mount is but guessed: the process does whatever it is asked to either way.
fuse=
case " $* " in
  *' probe '* | *' list '* | *' umount '* | *' repair '* | *' exec '* | *' enter '* | *' doctor '* | *' completion '*) ;;
  *' -f '* | *' --foreground '* | *' -d '* | *' --debug '* | *' -h '* | *' --help '*) ;;
  *' --backend fuse '* | *' --backend=fuse '*) fuse=yes ;;
  *' --backend'*) ;;
  *' -o'*) [ -O / ] || fuse=yes ;;
esac
if [ -n "$fuse" ] && [ -e /proc/self/fd/0 ] && [ -e /proc/self/fd/1 ] && [ -e /proc/self/fd/2 ]; then
  # What the caller has open must not stay open with the mount: the process can tell only those from 17 on from its
  # own, and sh closes no more than those up to 9. The shell itself has one of the others.
  high=0
  for fd in /proc/self/fd/1[0-6]; do high=$((high + 1)); done
  if [ "$high" -le 1 ]; then
    exec 8<&0 9>&1
    status=$(
      GIT2DB_STATUS_FD=3 node --no-warnings --v8-pool-size=1 "$0" "$@" \
        3>&1 <&8 >&9 4>&- 5>&- 6>&- 7>&- 8>&- 9>&- &
    )
    exit "${status:-3}"
  fi
fi
