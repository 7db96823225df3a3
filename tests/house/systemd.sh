#!/usr/bin/env bash
# What is installed for systemd: the units are what it takes for correct and harmless, and name programs that are there;
# the user and the directory come out as the units expect them.  All without a running systemd.
#
#   systemd.sh BUILD_DIR CMAKE
set -euo pipefail
build=$1 cmake=$2
fail() { echo "systemd: $*" >&2; exit 1; }
command -v systemd-analyze >/dev/null || { echo "systemd: there is no systemd-analyze here"; exit 77; }
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
prefix=$scratch/prefix units=$scratch/prefix/lib/systemd/system

"$cmake" --install "$build" --prefix "$prefix" >/dev/null
# Of what it does not know or would ignore it only warns, and ends with 0.
said=$(systemd-analyze verify --man=no "$units"/* 2>&1) || fail "verify: $said"
[ -z "$said" ] || fail "verify: $said"
grep -h '^ExecStart=' "$units"/* | sed 's/^ExecStart=\([^ ]*\).*/\1/' | while read -r program; do
  [ -x "$program" ] || fail "a unit starts $program, which is not there"
done
# From 0 to 100; without any sandboxing a service has 96.
for unit in "$units"/*.service; do
  systemd-analyze security --offline=yes --no-pager --threshold=12 "$unit" >"$scratch/security" ||
    fail "${unit##*/} is exposed: $(cat "$scratch/security")"
done

if [ "$(id -u)" = 0 ]; then
  root=$scratch/root
  mkdir -p "$root/etc"
  systemd-sysusers --root="$root" "$prefix/lib/sysusers.d/slotcast.conf"
  systemd-tmpfiles --root="$root" --create "$prefix/lib/tmpfiles.d/slotcast.conf"
  ids=$(sed -n 's/^slotcast:[^:]*:\([0-9]*:[0-9]*\):.*/\1/p' "$root/etc/passwd")
  [ "$(stat -c %u:%g:%a "$root/run/slotcast")" = "$ids:755" ] || fail "/run/slotcast is not the broker's"
fi

# And none where that was asked for.
"$cmake" -S "$(dirname "$0")/../.." -B "$scratch/without" -G Ninja -DSLOTCAST_SYSTEMD=OFF >/dev/null
! grep -rq systemd/system "$scratch/without" --include=cmake_install.cmake || fail "SLOTCAST_SYSTEMD=OFF installs units"
echo "the units are in order"
