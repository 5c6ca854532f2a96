#!/bin/sh
':' /*
# What sh reads of this program, which is JavaScript from the star and slash on. Node parses every certificate that
# NODE_EXTRA_CA_CERTS names before it runs a line: twice what all else of its start takes, with a whole bundle. So
# it is not told; the program finds the file by the other name and reads it when it speaks TLS.
if [ -n "$NODE_EXTRA_CA_CERTS" ]; then
  GIT2DB_NODE_EXTRA_CA_CERTS=$NODE_EXTRA_CA_CERTS
  export GIT2DB_NODE_EXTRA_CA_CERTS
  unset NODE_EXTRA_CA_CERTS
else
  unset GIT2DB_NODE_EXTRA_CA_CERTS
fi
exec node "$0" "$@"
*/
