#!/usr/bin/env bash
# slotcast run --shadow: broker and shadows that die are started again, and nothing is lost.   shadow.sh memfd|shm
# One that is killed itself leaves no process behind.  With --inside it is the command that is run, a child of slotcast
# run.
set -euo pipefail
export PATH=$SLOTCAST_BIN_DIR:$PATH

fail() { echo "FAILED: $*" >&2; exit 1; }

# The processes of that name that `slotcast run` has started.
programs() {
  local pid name
  for pid in $(cat "/proc/$PPID/task/$PPID/children"); do
    read -r name 2>/dev/null <"/proc/$pid/comm" || continue
    [ "$name" != "$1" ] || echo "$pid"
  done
}

# kill_one NAME SIGNAL: ends the newest of that name, and waits until it has gone.
kill_one() {
  local pid
  pid=$(programs "$1" | tail -n 1)
  [ -n "$pid" ] || fail "there is no $1"
  kill "-$2" "$pid"
  while programs "$1" | grep -qx "$pid"; do :; done
}

await() { until "$@" >/dev/null 2>&1; do :; done; }
has_programs() { [ "$(programs "$1" | wc -l)" = "$2" ]; }

inside() {
  has_programs slotcast-shadow 2 || fail "there are not two shadows"
  slotcast create kept --slots 8 --slot-size 64 --keep-last 1 >/dev/null
  echo one | slotcast pub kept --lines --quiet
  for round in 1 2 3; do
    # What one shadow lost the other has: always the same, for when the new one is up to date is not to be seen.
    [ "$round" = 1 ] || kill_one slotcast-shadow KILL
    kill_one slotcastd KILL
    await slotcast ls
    [ "$(slotcast sub kept --from oldest --count 1 --quiet)" = one ] || fail "round $round: the message has gone"
    await has_programs slotcast-shadow 2
    slotcast create "round/$round" --slots 4 --slot-size 64 >/dev/null
  done
  [ "$(slotcast ls | grep -c '^round/')" = 3 ] || fail "channels have gone: $(slotcast ls)"
  # One that is told to end has ended; that it is not started again is seen when a shadow is.
  kill_one slotcastd TERM
  kill_one slotcast-shadow KILL
  await has_programs slotcast-shadow 2
  has_programs slotcastd 0 || fail "the broker was told to end and is started again"
  exit 7
}

[ "$1" != --inside ] || inside

backend=$1
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export XDG_RUNTIME_DIR=$scratch/runtime
mkdir "$XDG_RUNTIME_DIR"
unset SLOTCAST_SOCKET
status=0
slotcast run --backend "$backend" --shadows 2 -- "$0" --inside 2>"$scratch/err" || status=$?
[ "$status" = 7 ] || fail "the command's status is 7, run's was $status: $(cat "$scratch/err")"
[ "$(grep -c 'the broker ended with signal 9: it is started again' "$scratch/err")" = 3 ] ||
  fail "it does not tell of the broker: $(cat "$scratch/err")"
[ "$(grep -c 'a shadow ended with signal 9: it is started again' "$scratch/err")" = 3 ] ||
  fail "it does not tell of the shadows: $(cat "$scratch/err")"
[ -z "$(ls -A "$XDG_RUNTIME_DIR")" ] || fail "files are left: $(ls -AR "$XDG_RUNTIME_DIR")"
# Killed: command, broker and shadows end, each by the signal that the kernel sends it then.
mkfifo "$scratch/ready"
# shellcheck disable=SC2016  # it is for that shell
slotcast run --backend "$backend" --shadows 2 -- \
  sh -c 'echo $$ $(cat "/proc/$PPID/task/$PPID/children") >"$0"; exec sleep 1000' "$scratch/ready" 2>/dev/null & run=$!
read -r command started <"$scratch/ready"
[ "$(wc -w <<<"$started")" = 4 ] || fail "run has started $started"
kill -KILL "$run"
wait "$run" 2>/dev/null || true
for pid in $command $started; do
  while grep -q '^State:[[:space:]]*[^ZX]' "/proc/$pid/status" 2>/dev/null; do :; done
done
echo "run --shadow brings back what dies"
