#!/usr/bin/env bash
# Installs BUILD into a scratch prefix, moves that elsewhere, and builds and runs an outside program from there in
# every way we promise: pkg-config and find_package, shared and static.
#
#   consumer.sh BUILD_DIR CMAKE
set -euo pipefail
build=$1 cmake=$2
here=$(cd "$(dirname "$0")" && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

"$cmake" --install "$build" --prefix "$scratch/first" >/dev/null
# Nothing in it may depend on where it was put.
prefix=$scratch/moved
mv "$scratch/first" "$prefix"
pc=$(find "$prefix" -name slotcast.pc)
libdir=$(dirname "$(dirname "$pc")")
export PKG_CONFIG_PATH=${pc%/*}
cc=${CC:-cc}

# works NAME PROGRAM: it runs with the installed broker, and is linked as its name says.
works() {
  local name=$1 program=$2 needed
  LD_LIBRARY_PATH=$libdir "$prefix/bin/slotcast" run -- env LD_LIBRARY_PATH="$libdir" "$program" |
    grep -qx 'hello from an outside program' || { echo "consumer: $name does not work" >&2; exit 1; }
  needed=$(readelf -d "$program" | grep -c 'NEEDED.*libslotcast' || true)
  case $name in
    *shared) [ "$needed" = 1 ] ;;
    *static) [ "$needed" = 0 ] ;;
  esac || { echo "consumer: $name is linked in another way" >&2; exit 1; }
  echo "$name: works"
}

flags() { pkg-config "$@" slotcast; }
[ "$(flags --modversion)" = "$(sed -n 's/^#define SLC_VERSION_STRING "\(.*\)"/\1/p' "$prefix/include/slotcast/slotcast.h")" ]

# shellcheck disable=SC2046 # flags are words
"$cc" -std=c99 -pedantic -Wall -Werror "$here/consumer.c" -o "$scratch/pc-shared" $(flags --cflags --libs)
works pkg-config-shared "$scratch/pc-shared"
# shellcheck disable=SC2046
"$cc" -std=c99 -static "$here/consumer.c" -o "$scratch/pc-static" $(flags --static --cflags --libs)
works pkg-config-static "$scratch/pc-static"

"$cmake" -S "$here/outside" -B "$scratch/cmake" -G Ninja -DCMAKE_PREFIX_PATH="$prefix" >/dev/null
"$cmake" --build "$scratch/cmake" >/dev/null
works cmake-shared "$scratch/cmake/consumer-shared"
works cmake-static "$scratch/cmake/consumer-static"

# The programs find their library without help from the environment.
"$prefix/bin/slotcast" --version
"$prefix/bin/slotcastd" --version
"$prefix/bin/slotcast-shadow" --version
