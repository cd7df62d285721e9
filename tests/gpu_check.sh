#!/usr/bin/env bash
# All that can only be proven on a GPU, in one command. It needs built binaries, and neither cmake nor ctest.
#
#   tests/gpu_check.sh                         from a build tree: build/dev, build, or BUILD=...
#   tests/gpu_check.sh .gpu/bin .gpu/run       from a bundle: the folder of the binaries, and what starts them
#
# Kernel, engine, model and tool tests that can choose their device run on CUDA (FROST_TEST_DEVICE=cuda), and compute-sanitizer
# watches the kernel tests. Each line is one program: passed, FAILED with its output's end, or SKIPPED with the reason. Ends
# with "N passed, N failed". Still to come: golden groups in f16 and bf16, CPU and CUDA training side by side.
set -u
cd "$(dirname "$0")/.." || exit 2
bin=${1:-}
for folder in ${BUILD:+"$BUILD/bin"} build/dev/bin build/bin; do [ -z "$bin" ] && [ -d "$folder" ] && bin=$folder; done
start=${2:-env}
[ -d "${bin:-}" ] || { echo "gpu_check: no binaries found; build first, or name their folder"; exit 2; }
# A program's line says why CUDA is not usable: no driver, no device, a library that is missing.
reason=$("$start" "$bin/frost-bench" --device cuda --infer --repeats 1 --model yolov5n 2>&1 >/dev/null | head -1)
case $reason in
*"--device cuda"*) echo "gpu_check: nothing was run: ${reason#frost-bench: }"; exit 77 ;;
esac

export FROST_TEST_DEVICE=cuda
log=$(mktemp -d)
passed=0 failed=0 skipped=0
run() {  # NAME COMMAND...
  local name=$1 status
  shift
  local from=$SECONDS
  "$@" > "$log/out" 2>&1
  status=$?
  if [ $status -eq 0 ] && grep -q '^SKIPPED' "$log/out"; then
    grep '^SKIPPED' "$log/out" | sort -u | sed "s|^|    $name: |"
  fi
  if [ $status -eq 77 ]; then
    skipped=$((skipped + 1))
    printf 'SKIPPED  %-52s %s\n' "$name" "$(grep -m1 SKIPPED "$log/out")"
  elif [ $status -eq 0 ]; then
    passed=$((passed + 1))
    printf 'passed   %-52s %4d s\n' "$name" $((SECONDS - from))
  else
    failed=$((failed + 1))
    printf 'FAILED   %-52s exit code %d\n' "$name" $status
    tail -n 25 "$log/out" | sed 's/^/    /'
  fi
}
if command -v nvidia-smi > /dev/null; then nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader; fi
date -u +%Y-%m-%d

# A program that does not look at FROST_TEST_DEVICE would run on the CPU and prove nothing here: it counts as skipped.
on_cuda() { grep -q FROST_TEST_DEVICE "$1"; }
skip() { skipped=$((skipped + 1)); printf 'SKIPPED  %-52s %s\n' "$1" "cannot choose its device yet: it would run on the CPU"; }
for test in "$bin"/kernels_*_test "$bin"/engine_tensor_test "$bin"/engine_autograd_test "$bin"/models_learning_test \
            "$bin"/models_golden_model_test "$bin"/models_golden_train_test "$bin"/tools_training_test; do
  [ -x "$test" ] || continue
  if on_cuda "$test"; then run "${test##*/}" "$start" "$test"; else skip "${test##*/}"; fi
done

if sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2> /dev/null); then
  for tool in memcheck racecheck initcheck; do
    for test in "$bin"/kernels_*_test; do
      on_cuda "$test" && run "$tool ${test##*/}" "$start" "$sanitizer" --tool $tool --error-exitcode 1 --print-limit 20 "$test"
    done
  done
else
  echo "SKIPPED  compute-sanitizer: not found on this machine"
  skipped=$((skipped + 1))
fi
rm -rf "$log"
[ $skipped -gt 0 ] && echo "$skipped skipped"
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
