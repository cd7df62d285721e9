#!/usr/bin/env bash
# make-shapes as a person meets it: files, exit codes, one clear line for each mistake.
set -euo pipefail
tool=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

expect() {  # expect EXIT_CODE TEXT ARGUMENT...: the tool ends so and says so, in one line where it complains
  local code=0
  "$tool" "${@:3}" >"$work/out" 2>"$work/err" || code=$?
  if [ $code != "$1" ] || ! cat "$work/out" "$work/err" | grep -qF -- "$2" || { [ "$1" != 0 ] && [ "$(wc -l <"$work/err")" != 1 ]; }; then
    echo "FAILED: make-shapes ${*:3}: exit code $code, expected $1 and '$2'"
    cat "$work/out" "$work/err"
    failed=1
  fi
}

expect 0 "3 training and 2 validation pictures of 64 x 64" --out "$work/a b/ä" --train 3 --val 2 --imgsz 64 --classes 6
[ "$(cd "$work/a b/ä" && find . -type f | wc -l)" = 11 ] || { echo "FAILED: not 5 pictures, 5 labels and shapes.yaml"; failed=1; }
expect 0 "3 training" --out "$work/a b/ä" --train 3 --val 2 --imgsz 64 --classes 6  # again, into the same folder
expect 0 "--classes" --help
expect 2 "--out is required"
expect 2 "--classes: must be from 1 to 6 (given: 7)" --out "$work/b" --classes 7
expect 2 "--train: a whole number is expected, not 'many'" --out "$work/b" --train many
expect 2 "--imgsz: must be from 32 to 8192 (given: 8)" --out "$work/b" --imgsz 8
expect 2 "--seed" --out "$work/b" --seed x
expect 2 "unknown option --sead (did you mean --seed?)" --out "$work/b" --sead 1
[ ! -e "$work/b" ] || { echo "FAILED: a wrong command line made files"; failed=1; }
touch "$work/file"
expect 1 "$work/file/images/train: cannot make this folder" --out "$work/file"
exit $failed
