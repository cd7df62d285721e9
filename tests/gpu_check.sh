#!/usr/bin/env bash
# All that can only be proven on a GPU, in one command. It needs built binaries, and neither cmake nor ctest.
#
#   tests/gpu_check.sh                         from a build tree: build/dev, build, or BUILD=...
#   tests/gpu_check.sh .gpu/bin .gpu/run       from a bundle: the folder of the binaries, and what starts them by name
#
#   ONLY='models_*'              the programs of that name alone; ONLY='memcheck *', 'racecheck *', 'initcheck *'
#   SANITIZER=off                without compute-sanitizer
#   FROST_SHARED_DIR=...         photographs and published weights; a bundle's data/ is found
#   FROST_TEST_DEVICE=cuda:1     another GPU; `emulated` or `cpu` rehearse on a machine without one
#
# Every kernel, engine, model and tool test that computes on a device computes on this one: the golden groups in f32, f16 and
# bf16 (models_golden_*, models_classifier_test), 20 training steps beside the CPU's (models_devices_agree_test), captured
# steps beside eager ones. Then compute-sanitizer watches the kernel tests. Each line is one program: passed, FAILED with its
# output's end, or SKIPPED with the reason. Ends with "N passed, N failed".
set -u
cd "$(dirname "$0")/.." || exit 2
bin=${1:-}
for folder in ${BUILD:+"$BUILD/bin"} build/dev/bin build/bin; do [ -z "$bin" ] && [ -d "$folder" ] && bin=$folder; done
start=${2:-}
[ -d "${bin:-}" ] || { echo "gpu_check: no binaries found; build first, or name their folder"; exit 2; }
bin=$(cd "$bin" && pwd)
line() { if [ -n "$start" ]; then line=("$start" "$1"); else line=("$bin/$1"); fi; }  # NAME: its command line
export FROST_GOLDEN_DIR=${FROST_GOLDEN_DIR:-$PWD/tests/golden}
if [ -z "${FROST_SHARED_DIR:-}" ] && [ -d "$bin/../data" ]; then
  FROST_SHARED_DIR=$(cd "$bin/../data" && pwd) && export FROST_SHARED_DIR
fi
# A program that does not look at FROST_TEST_DEVICE computes on no device: formulas, files, labels.
device_tests() {
  local test
  for test in "$bin"/{kernels,engine,models,tools}_*_test; do [ -x "$test" ] && grep -q FROST_TEST_DEVICE "$test" && echo "$test"; done
}
export FROST_TEST_DEVICE=${FROST_TEST_DEVICE:-cuda}
case $FROST_TEST_DEVICE in
cuda*)  # a program's line says why CUDA is not usable: no driver, no device, a library that is missing
  line frost-bench
  reason=$("${line[@]}" --device "$FROST_TEST_DEVICE" --infer --repeats 1 --model yolov5n 2>&1 > /dev/null |
    grep -e "--device $FROST_TEST_DEVICE" | head -1)
  if [ -n "$reason" ]; then
    echo "SKIPPED: $(device_tests | wc -l) test programs need a GPU: ${reason#frost-bench: }"
    exit 77
  fi ;;
*) echo "gpu_check: a rehearsal, FROST_TEST_DEVICE=$FROST_TEST_DEVICE" ;;
esac

log=$(mktemp -d)
passed=0 failed=0 skipped=0
run() {  # NAME COMMAND...
  local name=$1 status
  # shellcheck disable=SC2254
  case $name in ${ONLY:-*}) ;; *) return ;; esac
  shift
  local from=$SECONDS
  timeout -k 10 1200 "$@" > "$log/out" 2>&1
  status=$?
  if [ $status -eq 77 ]; then
    skipped=$((skipped + 1))
    printf 'SKIPPED  %-52s %s\n' "$name" "$(grep -m1 SKIPPED "$log/out")"
  elif [ $status -eq 0 ]; then
    passed=$((passed + 1))
    printf 'passed   %-52s %4d s\n' "$name" $((SECONDS - from))
    grep 'SKIPPED' "$log/out" | sort -u | tee -a "$log/cases" | sed 's/^/    /'
  else
    failed=$((failed + 1))
    printf 'FAILED   %-52s exit code %d\n' "$name" $status
    tail -n 25 "$log/out" | sed 's/^/    /'
  fi
}
if command -v nvidia-smi > /dev/null; then nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader; fi
date -u +%Y-%m-%d

for test in $(device_tests); do
  line "${test##*/}"
  run "${test##*/}" "${line[@]}"
done

if [ "${SANITIZER:-}" = off ]; then
  :
elif sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2> /dev/null); then
  for tool in memcheck racecheck initcheck; do
    for test in $(device_tests | grep /kernels_); do
      line "${test##*/}"
      # What CUDA's calls return is checked by ourselves; tests provoke exhausted memory on purpose.
      run "$tool ${test##*/}" "$sanitizer" --tool $tool --target-processes all --report-api-errors no --error-exitcode 1 \
        --print-limit 20 "${line[@]}"
    done
  done
else
  echo "SKIPPED  compute-sanitizer: not found on this machine"
  skipped=$((skipped + 1))
fi
[ -s "$log/cases" ] && echo "$(wc -l < "$log/cases") reasons why parts of passed programs were skipped, above"
rm -rf "$log"
[ $skipped -gt 0 ] && echo "$skipped skipped"
echo "$passed passed, $failed failed"
[ $failed -eq 0 ] && [ $passed -gt 0 ]
