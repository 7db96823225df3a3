#!/usr/bin/env bash
# The socket file's owner, group and mode, and what they let a process of another uid do.  Needs root, to have another uid.
set -uo pipefail
[ "$(id -u)" = 0 ] || exit 77
uid=65533 group=$(getent group nogroup | cut -d: -f3)
scratch=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null; rm -rf "$scratch"' EXIT
chmod 755 "$scratch"
mkdir -m 755 "$scratch/bin" "$scratch/run"
# Where the other uid may run them, too; the library is looked for beside where it was built, so that is said anew.
cp "$SLOTCAST_BIN_DIR"/{slotcast,slotcastd} "$SLOTCAST_BIN_DIR"/../lib/libslotcast.so.0 "$scratch/bin"
export PATH=$scratch/bin:$PATH LD_LIBRARY_PATH=$scratch/bin SLOTCAST_SOCKET=$scratch/run/broker.sock
unset XDG_RUNTIME_DIR
passed=0 failed=0

# expect WANTED-STATUS WANTED-PATTERN COMMAND..
expect() {
  local wanted=$1 pattern=$2 got
  shift 2
  "$@" >"$scratch/printed" 2>&1 </dev/null
  got=$?
  if [ "$got" = "$wanted" ] && grep -qE -- "$pattern" "$scratch/printed"; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    echo "FAILED: $* gave $got (wanted $wanted and /$pattern/):"
    cat "$scratch/printed"
  fi
}

as() { # UID GID COMMAND..
  setpriv --reuid "$1" --regid "$2" --clear-groups -- "${@:3}"
}

broker_start() {
  coproc "$@" 2>&1
  broker=$COPROC_PID
  local line
  while read -r line <&"${COPROC[0]}"; do
    [[ $line != *"serving at"* ]] || return
  done
  echo "FAILED: $* does not serve"
  exit 1
}

broker_stop() {
  kill "$broker"
  wait "$broker"
}

file_is() { # MODE:UID:GID PATH
  expect 0 "^$1\$" stat -c %a:%u:%g "$2"
}

# ---- by default the owner alone ----
broker_start slotcastd
file_is 600:0:0 "$SLOTCAST_SOCKET"
file_is 600:0:0 "$SLOTCAST_SOCKET.lock"
expect 0 '^\[\]$' slotcast ls --json
expect 1 'cannot connect.*Permission denied' as $uid $uid slotcast ls
expect 1 'cannot open .*Permission denied|holds' as $uid $uid slotcastd
expect 1 'cannot make|cannot open' as $uid $uid slotcastd --socket "$scratch/run/mine.sock"
expect 0 '^\[\]$' slotcast ls --json # nobody has taken it away
broker_stop

# ---- a group ----
broker_start slotcastd --socket-mode 0660 --socket-group nogroup
file_is 660:0:$group "$SLOTCAST_SOCKET"
file_is 600:0:0 "$SLOTCAST_SOCKET.lock"
expect 0 '^\[\]$' as $uid $group slotcast ls --json
expect 1 'Permission denied' as $uid $uid slotcast ls --json
broker_stop

# ---- everybody ----
broker_start slotcastd --socket-mode 0666
file_is 666:0:0 "$SLOTCAST_SOCKET"
expect 0 '^published 1 messages' as $uid $uid sh -c 'echo x | slotcast pub a --lines'
broker_stop

# ---- somebody else's broker: its own directory, its own files, root as anybody ----
install -d -o $uid -g $uid -m 700 "$scratch/theirs"
export SLOTCAST_SOCKET=$scratch/theirs/broker.sock
broker_start setpriv --reuid $uid --regid $uid --clear-groups -- slotcastd
file_is 600:$uid:$uid "$SLOTCAST_SOCKET"
expect 0 '^\[\]$' as $uid $uid slotcast ls --json
expect 1 'another broker' slotcastd
broker_stop
expect 0 '^0$' sh -c "ls '$scratch/theirs' '$scratch/run' | grep -c sock || true"

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
