#!/usr/bin/env bash
# The command line as a user meets it: exit codes, messages, streams byte for byte.   cli.sh memfd|shm
set -uo pipefail
backend=$1
export PATH=$SLOTCAST_BIN_DIR:$PATH
unset SLOTCAST_SOCKET
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export XDG_RUNTIME_DIR=$scratch/runtime
mkdir "$XDG_RUNTIME_DIR"
passed=0 failed=0

# expect WANTED-STATUS WANTED-PATTERN COMMAND..: status, and a pattern somewhere in what it printed (empty: whatever).
expect() {
  local wanted=$1 pattern=$2 got
  shift 2
  "$@" >"$scratch/printed" 2>&1 </dev/null
  got=$?
  if [ "$got" = "$wanted" ] && { [ -z "$pattern" ] || grep -qE -- "$pattern" "$scratch/printed"; }; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    echo "FAILED: $* gave $got (wanted $wanted and /$pattern/):"
    cat "$scratch/printed"
  fi
}

run() { slotcast run --backend "$backend" -- "$@"; }

# ---- help, versions, usage ----
for command in "" run pub sub ls info events create rm bench "bench all" "bench latency" \
  "bench throughput" "bench publish" "bench take" "bench fanout" \
  "bench wake" "bench control" "bench touch"; do
  # shellcheck disable=SC2086 # no word at all for the program itself
  expect 0 '^Usage: slotcast' slotcast $command --help
  # shellcheck disable=SC2086
  expect 0 '^slotcast [0-9]+\.[0-9]+\.[0-9]+$' slotcast $command --version
done
expect 0 '^Usage: slotcastd' slotcastd --help
expect 0 '^slotcastd [0-9]' slotcastd --version
expect 0 '^Usage: slotcast-shadow' slotcast-shadow --help
expect 0 '^slotcast-shadow [0-9]' slotcast-shadow --version
expect 2 '--shadows takes 1 or 2' slotcast run --shadows 3 -- true
expect 2 'Usage' slotcast
expect 2 "no command 'bend'" slotcast bend
expect 2 'takes a channel' slotcast pub
expect 2 '--slots takes' slotcast pub a --slots 3
expect 2 '--slots takes' slotcast pub a --slots 4x
expect 2 'exclude each other' slotcast pub a --lines --frame 3
for from in latest last: last:0 last:x oldest:3 ordinal ordinal:0 ordinal:-1; do
  expect 2 '--from is' slotcast sub a --from "$from"
done
expect 2 '--keep-last takes' slotcast pub a --keep-last 0
expect 2 '--linger takes' slotcast pub a --linger 0
expect 2 '--slow is' slotcast pub a --slow kill
expect 2 '--slow is' slotcast create a --slow quick
expect 2 'create takes one channel' slotcast create
expect 2 '--slots takes' slotcast create a --slots 3
expect 2 '--slot-size takes' slotcast create a --slot-size 2000G
expect 2 '--checksum is' slotcast create a --checksum sha1
expect 2 '--backend is' slotcast create a --backend paper
expect 2 '--backend is' slotcast pub a --backend paper
expect 2 '--pages is' slotcast create a --pages large
expect 2 '--pages is' slotcast pub a --pages 3K
expect 2 'rm takes one channel' slotcast rm a b
expect 2 'events takes no argument' slotcast events a
expect 2 'bench all has no --size' slotcast bench --size 64
expect 2 "no measurement 'speed'" slotcast bench speed
expect 2 'bench publish has no --wait' slotcast bench publish --wait blocking
expect 2 "Try 'slotcast bench take --help'" slotcast bench take --tke one
for sizes in 64,7 0 -8 '' 64, 2G 18446744073709551624 sixty; do
  expect 2 'numbers from 8 to' slotcast bench latency --size "$sizes"
done
expect 2 '--rate takes' slotcast bench throughput --rate 0
expect 2 '--slow takes' slotcast bench throughput --slow 2G
expect 2 'touch has no --plot' slotcast bench touch --plot "$scratch/plot.svg"
# A picture that cannot be drawn is told before anything is measured, and one that is not drawn leaves no file.
expect 1 "cannot write '/nowhere/plot.svg'" slotcast bench latency --plot /nowhere/plot.svg
expect 1 'Is a directory' slotcast bench latency --plot "$scratch"
expect 3 'start slotcastd' slotcast bench latency --socket "$scratch/none.sock" --plot "$scratch/plot.svg"
expect 1 'No such file' cat "$scratch/plot.svg"
expect 1 'No space left' slotcast bench latency --size 8 --quick --plot /dev/full
# What fails for many is told once.
expect 0 '^1$' sh -c 'slotcast bench throughput --publishers 9 --slots 16 --quick 2>&1 >/dev/null | grep -c .'
expect 2 '1 to 128 subscribers' slotcast bench fanout --subscribers 129
expect 2 '--by is' slotcast bench wake --by post
expect 1 'raise ulimit -Hn' sh -c 'ulimit -n 1000; exec slotcast bench control --channels 1000'
expect 2 '--open is' slotcast bench control --open all
expect 2 '1 to 64 subscribers' slotcast bench throughput --subscribers 1,0
expect 2 '--repeat takes' slotcast bench latency --repeat 4
expect 2 '--wait is' slotcast bench latency --wait long
expect 2 'takes no argument' slotcast bench latency 64
expect 3 'start slotcastd' slotcast bench latency --size 64 --socket "$scratch/none.sock"
expect 0 '^ +shm +small +yes ' slotcast bench touch --backend "$backend" --size 4K --slots 16
expect 0 '^ +64 B ' slotcast bench latency --backend "$backend" --size 64 --quick
[ "$backend" = shm ] || expect 0 '^open a publisher .* bare socket round trip' slotcast bench --quick
expect 2 "Try 'slotcast events --help'" slotcast events --jsn
expect 2 "Try 'slotcast sub --help'" slotcast sub a --frm newest
expect 2 '--backend is' slotcast run --backend paper -- true
expect 2 'needs a command' slotcast run
expect 2 '--backend is' slotcastd --backend paper
expect 2 '--max-users takes' slotcastd --max-users many
expect 2 'there is no such user' slotcast-shadow --user nobody-of-that-name
expect 2 '--max-records takes' slotcast-shadow --max-records 1x
expect 2 '--log-level is' slotcast-shadow --log-level loud
expect 2 'no option' slotcast-shadow x
expect 2 "Try 'slotcast-shadow --help'" slotcast-shadow --sockt x
expect 1 'socket path has 1 to' slotcast-shadow --socket "/tmp/$(printf '%0200d' 0)"

# ---- brokers that are not there, channels that are not ----
expect 3 'start slotcastd' slotcast ls --socket "$scratch/none.sock"
expect 3 'start slotcastd' slotcast create a --socket "$scratch/none.sock"
expect 3 'start slotcastd' slotcast events --socket "$scratch/none.sock"
expect 4 'no channel a' run slotcast rm a
expect 1 "Slotcast's own" run slotcast create .slotcast/mine
expect 1 "Slotcast's own" run slotcast rm .slotcast/events
expect 1 'printable UTF-8' run slotcast create $'a\tb'
expect 4 'no channel a' run slotcast info a
expect 1 'printable UTF-8' run slotcast sub $'a\tb' --count 1
expect 1 'cannot open' run slotcast pub a "$scratch/missing"

# ---- run: the command's own exit ----
expect 0 '' run true
expect 7 '' run sh -c 'exit 7'
expect 143 '' run sh -c 'kill -TERM $$'
expect 127 'cannot run' run "$scratch/missing"
expect 0 '^\[\]$' run slotcast ls --json

# ---- streams: awkward sizes, both ways to start first ----
stream() { # FILE FRAME
  run bash -c '
    slotcast sub s --reliable --quiet --out "$2/a" & a=$!
    slotcast sub s --reliable --quiet >"$2/b" & b=$!
    slotcast pub s --reliable --quiet --slots 16 --frame "$3" --wait-subscribers 2 "$1" && wait $a && wait $b' \
    stream "$1" "$scratch" "$2" && cmp "$1" "$scratch/a" && cmp "$1" "$scratch/b"
}
for size in 0 1 31 32 33 4095 4096 4097 1000000; do
  head -c "$size" /dev/urandom >"$scratch/file"
  expect 0 '' stream "$scratch/file" 4096
  expect 0 '' stream "$scratch/file" 32
done

lines() {
  run bash -c 'slotcast sub l --reliable --quiet >"$2" & slotcast pub l --lines --reliable --quiet --wait-subscribers 1 "$1"
    wait' lines "$1" "$scratch/lines" && cmp "$1" "$scratch/lines"
}
printf 'one\n\ntwo words\nno newline at the end' >"$scratch/text"
expect 0 '' lines "$scratch/text"

expect 0 '^1 2 3 $' run bash -c 'slotcast sub c --reliable --count 3 --quiet | tr "\n" " " &
  seq 1 100 | slotcast pub c --reliable --lines --quiet --wait-subscribers 1; wait; echo'

# ---- late joiners: a publisher that has sent 200 lines, of which 64 slots keep the last 40 at least ----
late() { # WHERE PIPELINE..
  run bash -c '
    (seq 1 200; until [ -e "$1" ]; do :; done) | slotcast pub late --lines --quiet --slots 64 --keep-last 40 & publisher=$!
    until slotcast ls --json | grep -q "\"messages\": 200"; do :; done
    slotcast sub late --from "$2" --quiet --count 40 2>&1 | tr "\n" " " &
    reader=$!
    wait "$reader"
    touch "$1"
    wait "$publisher"
    rm "$1"' late "$scratch/late" "$1"
}
expect 0 "^$(seq -s ' ' 161 200) $" late last:40
expect 0 "^$(seq -s ' ' 161 200) $" late ordinal:161
expect 1 'keeps at most slots - 3' run slotcast pub late --slots 16 --keep-last 14 /dev/null

# ---- eight publishers at once fit into a channel of the default size ----
expect 0 '^8$' run bash -c 'slotcast sub m --reliable --quiet | wc -l & for i in 1 2 3 4 5 6 7 8; do
    (echo "$i"; until [ -e "$1" ]; do :; done) | slotcast pub m --reliable --lines --quiet & done
  until slotcast ls --json | grep -q "\"publishers\": 8"; do :; done; touch "$1"; wait' eight "$scratch/eight"

# ---- looking at a channel ----
expect 0 '"role": "subscriber"' run bash -c 'slotcast sub i --quiet & until slotcast ls --json | grep -q "\"i\""; do :; done
  slotcast info i --json --interval 0; kill $!; wait'
expect 0 'slots of' run bash -c '(echo x; until [ -e "$1" ]; do :; done) | slotcast pub i --lines --quiet & 
  until slotcast ls --json | grep -q "\"messages\": 1"; do :; done; slotcast info i --interval 10; touch "$1"; wait' look "$scratch/go"

# ---- channels that stay ----
expect 0 '^kept$' run bash -c 'slotcast create c --slots 16 --slot-size 100 --type text && echo kept | slotcast pub c --lines --quiet &&
  slotcast sub c --from oldest --count 1 --quiet && slotcast rm c'
expect 1 'exists with 16 slots' run bash -c 'slotcast create c --slots 16; slotcast create c --slots 8'
expect 0 '"persistent": true' run bash -c 'slotcast create c; slotcast ls --json'
expect 0 'stays without users, fixed size, keeps the last 3, subscribers up to 2, loans up to 4, holds up to 5' run bash -c '
  slotcast create c --fixed-size --keep-last 3 --max-subscribers 2 --max-loans 4 --max-holds 5; slotcast info c --interval 0'
expect 0 'disconnects slow subscribers, subscribers up to 2' run bash -c '
  slotcast create c --slow disconnect --max-subscribers 2; slotcast info c --interval 0'
expect 0 '"slow": "disconnect"' run bash -c 'echo x | slotcast pub c --slow disconnect --lines --linger 3600000 --quiet; slotcast ls --json'
expect 1 'does not disconnect them' run bash -c 'slotcast create c; echo x | slotcast pub c --slow disconnect --lines --quiet'
expect 0 '"checksum": "crc32c"' run bash -c 'slotcast create c --checksum crc32c && slotcast create d --checksum 8 --metadata 16 &&
  slotcast info d --interval 0 --json | grep -q "\"checksum_size\": 8" && slotcast info c --interval 0 --json'
expect 0 '"backend": "shm"' run bash -c 'slotcast create c --backend shm --pages small --prefault; slotcast ls --json'
expect 0 '^memory +memfd, small pages' run bash -c 'echo x | slotcast pub c --backend memfd --prefault --lock-memory --linger 60000 --lines --quiet &&
  slotcast info c --interval 0'
expect 0 '^x$' run bash -c 'slotcast create c --backend shm; echo x | slotcast pub c --lines --quiet && slotcast sub c --from oldest --prefault --lock-memory --count 1 --quiet'
expect 1 'kept in shm, asked for was memfd' run bash -c 'slotcast create c --backend shm; echo x | slotcast pub c --backend memfd --lines'
expect 1 'has no huge pages of 8 GiB' run slotcast create c --backend memfd --pages 8G
expect 1 'all publishers have to agree' run bash -c 'slotcast create c --fixed-size; slotcast pub c --frame 10 --quiet'
expect 0 '' run bash -c 'slotcast create c --fixed-size; slotcast pub c --fixed-size --frame 10 --quiet'
expect 0 'split: payloads in memory of their own' run bash -c 'slotcast create c --split; slotcast info c --interval 0'
expect 0 'split$' run bash -c 'slotcast create c --split; echo x | slotcast pub c --split --quiet; slotcast ls'
expect 0 '"split": true' run bash -c 'slotcast create c --split; slotcast ls --json'
expect 0 '^x$' slotcast run --backend shm -- bash -c 'slotcast create c --split; echo x | slotcast pub c --split --lines --quiet && slotcast sub c --from oldest --count 1 --quiet'
expect 0 '^x$' run bash -c 'slotcast create c --backend shm --split; echo x | slotcast pub c --split --lines --quiet && slotcast sub c --from oldest --count 1 --quiet'
expect 2 'count takes a number from 1 on' slotcast events --count 0
expect 2 'count takes a number from 1 on' slotcast sub c --count none
expect 1 'all publishers have to agree .split' run bash -c 'slotcast create c --split; slotcast pub c --frame 10 --quiet'
expect 0 '^later$' run bash -c 'echo later | slotcast pub c --lines --linger 3600000 --quiet
  slotcast sub c --from oldest --count 1 --quiet; slotcast rm c'

# ---- checksums ----
expect 0 '^checked$' run bash -c 'echo checked | slotcast pub a --checksum --linger 100000 --lines --quiet
  slotcast info a --json --interval 0 | grep -q "\"checksum\": \"crc32c\"" && slotcast sub a --from oldest --count 1 --quiet'
expect 1 'ask for the same, or for 0' run bash -c 'slotcast create a --checksum 8; echo x | slotcast pub a --checksum --lines'
expect 1 'give compute_checksum' run bash -c 'slotcast create a --checksum 8; echo x | slotcast pub a --lines'

# ---- virtual channels: for one, for all, listed, named ----
expect 0 '^2 1 y$' run bash -c 'slotcast create m --max-virtual 8 && echo x | slotcast pub a --multiplexer m --lines --quiet &&
  echo y | slotcast pub b --multiplexer m --lines --quiet && slotcast sub m --ids --from oldest --count 2 --quiet'
expect 0 '^y$' run bash -c 'slotcast create m --max-virtual 8; echo x | slotcast pub a --multiplexer m --lines --quiet
  slotcast sub b --multiplexer m --from oldest --count 1 --quiet & p=$!; echo y | slotcast pub b --multiplexer m --lines --quiet --wait-subscribers 1; wait $p'
expect 0 '^m +2 ' run bash -c 'slotcast create m --max-virtual 8; for n in a b; do echo $n | slotcast pub $n --multiplexer m --lines --quiet; done
  slotcast ls'
expect 0 '^ +2 +0 +0 +1  b$' run bash -c 'slotcast create m --max-virtual 8; for n in a b; do echo $n | slotcast pub $n --multiplexer m --lines --quiet; done
  slotcast info m --interval 0'
expect 0 '"name": "b"' run bash -c 'slotcast create m --max-virtual 8; for n in a b; do echo $n | slotcast pub $n --multiplexer m --lines --quiet; done
  slotcast info m --interval 0 --json'
expect 1 'is a multiplexer' run bash -c 'slotcast create m --max-virtual 8; echo x | slotcast pub m --lines --quiet'
expect 2 '--max-virtual takes' slotcast create m --max-virtual 65535

expect 1 'in use.*subscriber slotcast \(pid [0-9]+' run bash -c 'slotcast create c; slotcast sub c --quiet & p=$!
  until slotcast ls --json | grep -q "\"subscribers\": 1"; do :; done; slotcast rm c; got=$?; kill $p; wait; exit $got'
expect 0 '^\[\]$' run bash -c 'slotcast create c; slotcast sub c --quiet & p=$!
  until slotcast ls --json | grep -q "\"subscribers\": 1"; do :; done; slotcast rm c --force; kill $p; wait; slotcast ls --json'

# ---- what has happened ----
expect 0 '^[0-9T:.-]+Z  publisher-left      e  slotcast \(pid [0-9]+, uid [0-9]+, slotcast\)$' run bash -c '
  echo x | slotcast pub e --lines --quiet; slotcast events --count 4'
expect 0 '"event":"subscriber-died","channel":"e".*"pid":[0-9]+' run bash -c 'slotcast sub e --quiet & p=$!
  slotcast events --json --channel e --count 2 --from oldest >/dev/null; kill -9 $p; wait
  slotcast events --json --channel e --count 3'
expect 0 '^only$' run bash -c 'slotcast create a; slotcast create b; slotcast events --channel b --count 1 | grep -q " b$" && echo only'
expect 130 '' run bash -c 'slotcast events & p=$!; until slotcast info .slotcast/events --json --interval 0 | grep -q "subscribers\": 1"; do :; done
  kill -INT $p; wait $p'
broker_ends() { # SIGNAL: how `slotcast events` ends when the broker does
  slotcastd --backend "$backend" --socket "$scratch/b.sock" 2>/dev/null & local broker=$!
  until slotcast ls --socket "$scratch/b.sock" >/dev/null 2>&1; do :; done
  slotcast events --socket "$scratch/b.sock" & local events=$!
  until slotcast info .slotcast/events --socket "$scratch/b.sock" --json --interval 0 | grep -q 'subscribers": 1'; do :; done
  kill -s "$1" "$broker"
  wait "$broker" 2>/dev/null
  wait "$events"
}
expect 3 'has gone' broker_ends KILL
expect 0 '' broker_ends TERM
rm -f "$scratch"/b.sock*

# ---- README: its C is the examples' ----
readme() {
  for example in publisher subscriber; do
    awk -v e="docs/examples/$example.c" 'index($0, "<!-- " e) {on = 1; next} on && /^```c/ {in_code = 1; next}
      in_code && /^```/ {exit} in_code' "$SLOTCAST_SOURCE_DIR/README.md" >"$scratch/snippet"
    [ -s "$scratch/snippet" ] || return 1
    sed 's/^  //' "$SLOTCAST_SOURCE_DIR/docs/examples/$example.c" >"$scratch/example"
    while IFS= read -r line; do grep -qxF -- "$line" "$scratch/example" || { echo "not in the example: $line"; return 1; }; done \
      <"$scratch/snippet"
  done
}
expect 0 '' readme

# ---- nothing is left ----
expect 0 '^$' sh -c 'ls -A "$XDG_RUNTIME_DIR"; echo'

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
