#!/usr/bin/env bash
# tests/gpu_check.sh on programs that only pretend: what it runs, counts, prints and returns.
set -u
check=$1
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
program() {  # NAME BODY
  mkdir -p "$dir/bin"
  printf '#!/bin/sh\n# FROST_TEST_DEVICE\n%s\n' "$2" > "$dir/bin/$1"
  chmod +x "$dir/bin/$1"
}
program kernels_good_test 'echo fine; echo "SKIPPED: needs ../shared/data"'
program models_device_test 'echo "$FROST_TEST_DEVICE ${FROST_SHARED_DIR##*/}" >&2; [ "$FROST_TEST_DEVICE" = cuda:1 ]'
program engine_bad_test 'echo "the reason"; exit 3'
program tools_skipped_test 'echo "SKIPPED: no such device"; exit 77'
program frost-bench 'echo "frost-bench: --device cuda: CUDA is not usable: no NVIDIA driver" >&2; exit 1'
printf '#!/bin/sh\nexit 9\n' > "$dir/bin/models_host_test" && chmod +x "$dir/bin/models_host_test"
mkdir -p "$dir/data" "$dir/tools"
printf '#!/bin/sh\nexec "%s/bin/$@"\n' "$dir" > "$dir/run" && chmod +x "$dir/run"
printf '#!/bin/sh\nwhile case $1 in --print-limit|--tool|--error-exitcode|--target-processes|--report-api-errors) true ;; *) false ;; esac; do shift 2; done\nexec "$@"\n' \
  > "$dir/tools/compute-sanitizer" && chmod +x "$dir/tools/compute-sanitizer"
export PATH=$dir/tools:$PATH
unset FROST_SHARED_DIR FROST_TEST_DEVICE ONLY BUILD

failures=0
expect() {  # STATUS WORDS...: of the last output
  [ "$status" -eq "$1" ] || { echo "exit code $status, expected $1"; failures=$((failures + 1)); }
  shift
  for word in "$@"; do
    case $out in *"$word"*) ;; *) echo "expected: $word"; failures=$((failures + 1)) ;; esac
  done
}
out=$("$check" "$dir/bin" 2>&1) status=$?
expect 77 'SKIPPED: 4 test programs need a GPU: --device cuda: CUDA is not usable: no NVIDIA driver'

for start in '' "$dir/run"; do
  program frost-bench 'exit 0'
  out=$(FROST_TEST_DEVICE=cuda:1 "$check" "$dir/bin" $start 2>&1) status=$?
  expect 1 'passed   kernels_good_test' '    SKIPPED: needs ../shared/data' 'passed   models_device_test' \
    'FAILED   engine_bad_test' 'exit code 3' '    the reason' 'SKIPPED  tools_skipped_test' 'no such device' \
    'passed   memcheck kernels_good_test' 'passed   racecheck kernels_good_test' 'passed   initcheck kernels_good_test' \
    '1 skipped' '5 passed, 1 failed'
  case $out in *models_host_test*) echo "a program that computes on no device was run"; failures=$((failures + 1)) ;; esac
  out=$(FROST_TEST_DEVICE=emulated ONLY='kernels_*' "$check" "$dir/bin" $start 2>&1) status=$?
  expect 0 'a rehearsal, FROST_TEST_DEVICE=emulated' '1 passed, 0 failed'
done
program models_device_test 'test "$FROST_SHARED_DIR" = "'"$dir"'/data"'
out=$(FROST_TEST_DEVICE=cpu ONLY='models_*' "$check" "$dir/bin" 2>&1) status=$?
expect 0 '1 passed, 0 failed'
out=$(FROST_TEST_DEVICE=cpu ONLY='no_such_*' "$check" "$dir/bin" 2>&1) status=$?
expect 1 '0 passed, 0 failed'
out=$("$check" "$dir/nothing" 2>&1) status=$?
expect 2 'no binaries found'
[ $failures -eq 0 ] || { printf 'last output:\n%s\n' "$out"; exit 1; }
