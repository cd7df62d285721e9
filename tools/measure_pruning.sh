#!/usr/bin/env bash
# Measures what docs/pruning.md claims and prints its table as Markdown: how far training on brings a pruned model back, how
# large the files are, how fast they run. For an otherwise idle machine. Runs that are finished are not repeated.
#   tools/measure_pruning.sh build/bin ../shared/data/bccd/bccd.yaml ../shared/weights/yolov5n.pt [folder [run]]
# run: the folder of a finished run whose model is the dense one (make freezing-table leaves build/freezing/freeze0); without it
# one is trained for 30 epochs. On two cores ten minutes, and four more for that.
set -euo pipefail
[ $# -ge 3 ] || { sed -n '2,7p' "$0"; exit 2; }
bin=$1 data=$2 weights=$3 out=${4:-build/pruning} run=${5:-}
imgsz=320 batch=16 epochs=${EPOCHS:-30} recovery=${RECOVERY:-10} rounds=${ROUNDS:-5}
mkdir -p "$out"

train() {  # name weights epochs [flags]
  local name=$1 from=$2 count=$3
  shift 3
  [ -f "$out/$name/summary.json" ] || "$bin/yolo-train" --weights "$from" --data "$data" --imgsz $imgsz --batch-size $batch \
    --epochs "$count" --cache ram --noplots --project "$out" --name "$name" --exist-ok "$@" > "$out/$name.log" 2>&1
}
recover() {  # name weights [flags]: docs/pruning.md's command for training on
  train "$1" "$2" "$recovery" --nbs $batch --cos-lr "${@:3}"
}
metrics() {  # file: mAP50 mAP50-95
  "$bin/yolo-val" --weights "$1" --data "$data" --imgsz $imgsz --batch-size $batch --noplots --project "$out" --name val \
    --exist-ok 2> /dev/null | awk '$1 == "all" { print $6, $7 }'
}
row() {  # label file
  read -r map50 map < <(metrics "$2")
  printf '| %s | %s | %s | %s |\n' "$1" "$map50" "$map" "$(stat -c %s "$2" | awk '{ printf "%.2f MB", $1 / 1e6 }')"
}

if [ -z "$run" ]; then
  run=$out/dense
  train dense "$weights" "$epochs"
fi
dense=$run/weights/best.safetensors
for method in "l1 --amount 0.5" "global --amount 0.5" "nm --pattern 2:4" "filters --amount 0.4 --multiple 16"; do
  name=${method%% *}
  # shellcheck disable=SC2086
  "$bin/yolo-prune" --weights "$dense" --method $method --save "$out/$name.safetensors" > "$out/$name.txt"
  recover "$name" "$out/$name.safetensors"
done
recover gradual "$dense" --prune-schedule "0:0.5:$((recovery / 2))"
recover again "$dense"

echo "| model | mAP50 | mAP50-95 | file |"
echo "| --- | --- | --- | --- |"
row "dense" "$dense"
row "dense, $recovery epochs on" "$out/again/weights/best.safetensors"
for name in l1 global nm filters; do
  row "$name, as pruned" "$out/$name.safetensors"
  row "$name, $recovery epochs on" "$out/$name/weights/best.safetensors"
done
row "--prune-schedule 0:0.5:$((recovery / 2)), $recovery epochs on" "$out/gradual/weights/best.safetensors"

# In turns, the best of all rounds: what else the machine does only ever adds time.
declare -A file=([dense]=$dense [l1]=$out/l1/weights/best.safetensors [filters]=$out/filters/weights/best.safetensors)
for _ in $(seq "$rounds"); do
  for name in dense l1 filters; do
    "$bin/frost-bench" --model "${file[$name]}" --infer --precision f32 |
      awk -v name="$name" '/ inference / { match($0, / b[0-9]+ /); print name, substr($0, RSTART + 2, RLENGTH - 3), $(NF - 4) }'
  done
done > "$out/speed.txt"
echo
echo "| inference at 640, best of $rounds rounds | batch 1 | batch 16 | |"
echo "| --- | --- | --- | --- |"
awk '{ key = $1 " " $2; if (!(key in best) || $3 < best[key]) best[key] = $3 }
     END { n = split("dense l1 filters", names, " ")
           for (i = 1; i <= n; ++i) { a = best[names[i] " 1"]; b = best[names[i] " 16"]
             printf "| %s | %.2f ms | %.2f ms | %.2f and %.2f times the rate |\n", names[i], a, b, best["dense 1"] / a, best["dense 16"] / b } }' \
  "$out/speed.txt"
