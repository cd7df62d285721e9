#!/usr/bin/env bash
# Installs the build $1 into an empty prefix, then builds and runs the project of examples $2 with nothing but that prefix.
set -euo pipefail
build=$1 examples=$2
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
fail() { echo "FAILED: $*"; exit 1; }

cmake --install "$build" --prefix "$dir/prefix" >"$dir/log" || { cat "$dir/log"; fail "cmake --install"; }
[ "$(ls "$dir/prefix/include")" = frost ] || fail "headers outside include/frost"
! grep -rl nlohmann "$dir/prefix/include" || fail "an installed header needs nlohmann/json"
! grep -rqE "Wall|Werror|CLI|doctest|$(dirname "$examples")" "$dir/prefix"/lib*/cmake/frost/*.cmake || fail "the build's own settings are exported"

CXXFLAGS="-Wall -Wextra -Werror" cmake -S "$examples" -B "$dir/examples" -D CMAKE_PREFIX_PATH="$dir/prefix" >"$dir/log" 2>&1 &&
  cmake --build "$dir/examples" -j 2 >"$dir/log" 2>&1 || { cat "$dir/log"; fail "the examples do not build"; }
OMP_NUM_THREADS=2 ctest --test-dir "$dir/examples" --output-on-failure || fail "an example"

# The tools, and with pkg-config.
lib=$(dirname "$(find "$dir/prefix" -name frost.pc)")/..
"$dir/prefix/bin/make-shapes" --out "$dir/shapes" --train 2 --val 1 --imgsz 64 >/dev/null || fail "an installed tool"
export PKG_CONFIG_PATH=$lib/pkgconfig
flags=$(pkg-config --cflags --libs frost) || fail "pkg-config"
# shellcheck disable=SC2086
c++ -std=c++20 -O0 "$examples/own_layer.cpp" -o "$dir/by_hand" $flags || fail "a program by pkg-config"
"$dir/by_hand" >/dev/null || fail "a program by pkg-config does not run"

# libfrost_cuda.so is found, by a tool and by a program that lies elsewhere: with a driver that is one by name only, the backend
# itself says what is missing.
if [ -e "$lib/libfrost_cuda.so" ]; then
  c++ -shared -x c++ /dev/null -o "$dir/libcuda.so.1"
  cat >"$dir/cuda.cpp" <<'END'
#include <frost/frost.h>
#include <cstdio>
int main() try {
  frost::RunDevice run("cuda", "f32");
} catch (const frost::Error& error) {
  std::puts(error.what());
}
END
  # shellcheck disable=SC2086
  c++ -std=c++20 -O0 "$dir/cuda.cpp" -o "$dir/cuda" $flags
  for program in "$dir/cuda" "$dir/prefix/bin/frost-bench --device cuda --infer --repeats 1 --model yolov5n"; do
    said=$(LD_LIBRARY_PATH=$dir $program 2>&1) || true
    case $said in *"no CUDA backend"* | *"not found"*) fail "the CUDA backend is not found: $said" ;; esac
  done
fi
echo "all as expected"
