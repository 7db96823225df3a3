#!/usr/bin/env bash
# No system call per message: over a million messages go to and fro between two busy processes, all system calls of both
# are counted, with those of starting, connecting, opening and closing.   strace.sh memfd|shm
set -uo pipefail
command -v strace >/dev/null || { echo "strace is missing: apt-get install strace" >&2; exit 1; }
counts=$(mktemp)
trap 'rm -f "$counts"' EXIT
unset SLOTCAST_SOCKET
"$SLOTCAST_BIN_DIR/slotcast" run --backend "$1" -- \
  sh -c 'exec strace -f -c -o "$1" "$2" bench latency --size 32,64 --count 100000 --socket "$SLOTCAST_SOCKET"' \
  strace "$counts" "$SLOTCAST_BIN_DIR/slotcast" || exit 1
calls=$(awk '$NF == "total" {print $(NF - 1) ~ /^[0-9]+$/ && NF == 5 ? $3 : $4}' "$counts")
calls=${calls:-$(awk '$NF == "total" {print $3}' "$counts")}
echo "$calls system calls for more than 2,000,000 messages"
[ "$calls" -gt 0 ] && [ "$calls" -lt 20000 ] || { cat "$counts"; exit 1; }
