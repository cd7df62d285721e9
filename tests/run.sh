#!/usr/bin/env bash
# Runs all tests of a build tree, and counts in the last line what could not be tested on this machine:
#   tests/run.sh build [options of ctest]
set -u
build=$1
shift
status=0
ctest --test-dir "$build" --output-on-failure "$@" || status=$?

# A test prints a line for each thing that it skips; ctest keeps what they print.
skipped=$(grep -aoE "^SKIPPED: (needs \.\./shared|[0-9]+ .*need a GPU).*" "$build/Testing/Temporary/LastTest.log")
[ -n "$skipped" ] && sort <<<"$skipped" | uniq -c
shared=$(grep -c '^SKIPPED: needs' <<<"$skipped")
gpu=$(awk '/need a GPU/ { programs += $2 } END { print programs + 0 }' <<<"$skipped")
echo "skipped without ../shared (photographs, published weights): $shared; without a GPU: $gpu"
exit $status
