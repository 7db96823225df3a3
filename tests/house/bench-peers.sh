#!/usr/bin/env bash
# The comparison with peers still runs, with Slotcast alone: it is one of the adapters.  Figures are nobody's business here.
#
#   bench-peers.sh BUILD_DIR
set -euo pipefail
bench=$1/bin/slotcast-bench-peers
fail() { echo "bench-peers: $*" >&2; exit 1; }
[ "$(nproc)" -ge 2 ] || { echo "bench-peers: there is one processor only"; exit 77; }

for backend in memfd shm; do
  said=$("$bench" --quick --json --backend "$backend" slotcast) || fail "it fails on $backend"
  [ "$(grep -c '"installed": true' <<<"$said")" = 3 ] || fail "not Slotcast and the machine without it: $said"
  # The bare rows have no version, and sockets do one of the nine exchanges.
  [ "$(grep -c 'null,\?$' <<<"$said")" = 10 ] || fail "something was not measured: $said"
  grep -q '"lost": 0' <<<"$said" || fail "a reliable stream lost messages: $said"
done
said=$("$bench" --quick slotcast) || fail "it fails without --json"
[[ $said == *'bare socket'* ]] || fail "no table: $said"
# A peer that fails, here without its broker, says so in its cells; the others are measured nevertheless.
said=$("$bench" --quick --json --backend nobody slotcast 2>/dev/null) && fail "it does not fail where a peer does"
[ "$(grep -c '"failed": true' <<<"$said")" = 9 ] || fail "what failed is not told: $said"
[ "$(grep -c 'null,\?$' <<<"$said")" = 10 ] || fail "nothing else is measured beside what fails: $said"
"$bench" --quick nobody 2>/dev/null && fail "it measures a peer that there is not"
"$bench" --help | grep -q iceoryx || fail "--help names no peers"
echo "the comparison runs"
