#!/usr/bin/env bash
# Measures what docs/pruning.md claims and prints its table as Markdown: how far fine-tuning brings a pruned model back, how
# large the files are, how fast they run. For an otherwise idle machine; about 30 minutes on two cores.
#   tools/measure_pruning.sh build/bin ../shared/data/bccd/bccd.yaml ../shared/weights/yolov5n.pt [folder]
set -euo pipefail
[ $# -ge 3 ] || { sed -n '2,4p' "$0"; exit 2; }
bin=$1 data=$2 weights=$3 out=${4:-build/pruning}
imgsz=320 batch=16 epochs=${EPOCHS:-30} recovery=${RECOVERY:-10}
mkdir -p "$out"

train() {  # name weights epochs [flags]
  local name=$1 from=$2 count=$3
  shift 3
  [ -f "$out/$name/summary.json" ] || "$bin/yolo-train" --weights "$from" --data "$data" --imgsz $imgsz --batch-size $batch \
    --epochs "$count" --noplots --project "$out" --name "$name" --exist-ok "$@" > "$out/$name.log" 2>&1
}
metrics() {  # file: mAP50 mAP50-95
  "$bin/yolo-val" --weights "$1" --data "$data" --imgsz $imgsz --batch-size $batch --noplots --project "$out" --name val \
    --exist-ok 2> /dev/null | awk '$1 == "all" { print $6, $7 }'
}
speed() {  # file: ms for each image alone, the median of five runs
  for _ in 1 2 3 4 5; do
    "$bin/yolo-val" --task speed --weights "$1" --data "$data" --imgsz 640 --batch-size 1 --noplots --project "$out" \
      --name val --exist-ok 2> /dev/null | sed -nE 's/.*pre-process, ([0-9.]+)ms inference.*/\1/p'
  done | sort -n | sed -n 3p
}
row() {  # label file
  read -r map50 map < <(metrics "$2")
  printf '| %s | %s | %s | %s | %s |\n' "$1" "$map50" "$map" "$(stat -c %s "$2" | awk '{ printf "%.2f MB", $1 / 1e6 }')" \
    "$(speed "$2") ms"
}

train dense "$weights" "$epochs"
dense=$out/dense/weights/best.safetensors
for method in "l1 0.5" "global 0.5" "filters 0.4"; do
  read -r name amount <<< "$method"
  "$bin/yolo-prune" --weights "$dense" --method "$name" --amount "$amount" --save "$out/$name.safetensors" > "$out/$name.txt"
  train "$name" "$out/$name.safetensors" "$recovery"
done
"$bin/yolo-prune" --weights "$dense" --method nm --pattern 2:4 --save "$out/nm.safetensors" > "$out/nm.txt"
train nm "$out/nm.safetensors" "$recovery"
train gradual "$dense" "$recovery" --prune-schedule "0:0.5:$((recovery / 2))"

echo "| model | mAP50 | mAP50-95 | file | inference, 640, batch 1 |"
echo "| --- | --- | --- | --- | --- |"
row "dense, $epochs epochs" "$dense"
for name in l1 global nm filters; do
  row "$name, as pruned" "$out/$name.safetensors"
  row "$name, $recovery epochs on" "$out/$name/weights/best.safetensors"
done
row "--prune-schedule 0:0.5:$((recovery / 2)), $recovery epochs" "$out/gradual/weights/best.safetensors"
