#!/usr/bin/env bash
# The tests labelled numeric (tests/CMakeLists.txt) once for each instruction set: oneDNN's by its own variable, under its old
# and its new name, and frost's loops by FROST_ISA. oneDNN takes the best that the CPU has where it is asked for more.
# usage: tests/test_isa.sh BUILD [ISA ...]      ISA: SSE41, AVX2, ..., or native for what the CPU has
set -euo pipefail
build=${1:?usage: tests/test_isa.sh BUILD [ISA ...]}
shift
[ $# -gt 0 ] || set -- SSE41 AVX2 AVX512_CORE AVX512_CORE_BF16 native
mkdir -p "$build/test-isa"
failed=0
for isa; do
  log=$build/test-isa/$isa.log start=$SECONDS
  limits=(-u FROST_ISA -u ONEDNN_MAX_CPU_ISA -u DNNL_MAX_CPU_ISA)
  [ "$isa" = native ] || limits+=("ONEDNN_MAX_CPU_ISA=$isa" "DNNL_MAX_CPU_ISA=$isa")
  case $isa in SSE41) limits+=(FROST_ISA=generic) ;; AVX2) limits+=(FROST_ISA=avx2) ;; esac
  word=passed
  env "${limits[@]}" ctest --test-dir "$build" -L '^numeric$' --no-tests=error --output-on-failure > "$log" 2>&1 || word=FAILED
  printf '%-17s %s, %d s: %s\n' "$isa" "$word" $((SECONDS - start)) "$(grep -h 'tests passed' "$log" || echo "see $log")"
  [ $word = passed ] || { failed=1; sed -n '/\*\*\*Failed/,$p' "$log"; }
done
exit $failed
