#!/usr/bin/env bash
# The story of the project, told by a run of a few minutes on two cores: a detector learns four shapes, is carried over to
# shapes it has never seen with more and more of it frozen, is pruned and tuned again; one table and one page compare it all.
#   tools/demo.sh BIN OUT    BIN: where the tools are; OUT: a folder for data, runs and the page
set -euo pipefail
bin=${1:?usage: demo.sh BIN OUT}
out=${2:?usage: demo.sh BIN OUT}
size=${DEMO_IMGSZ:-128} batch=8 start=$SECONDS

chapter() { printf '\n\033[1m%s\033[0m\n' "$*"; }
# Small batches, an optimizer step for each, and hyperparameters made for few steps: there is little time. --noplots but for the
# first run: its pictures do.
train() {
  local name=$1
  shift
  "$bin/yolo-train" --imgsz "$size" --batch-size $batch --nbs $batch --hyp hyp.short.yaml --cos-lr --cache ram \
    --project "$out" --name "$name" --exist-ok "$@"
}

# A set that is there is not drawn again, unless it was drawn otherwise.
draw() {
  local set=$1 how="--imgsz $size ${*:2}"
  [ "$(cat "$out/$set/drawn" 2>/dev/null)" != "$how" ] || return 0
  rm -rf "${out:?}/$set"
  "$bin/make-shapes" --out "$out/$set" --imgsz "$size" "${@:2}"
  echo "$how" >"$out/$set/drawn"
}

chapter "1. Two small data sets are drawn: A has circles, squares, triangles and stars; B has rings and crosses."
draw A --train 1024 --val 96
draw B --train 128 --val 96 --seed 1 --shapes ring cross

chapter "2. A YOLOv5n learns A from nothing."
train pretrained --weights '' --cfg yolov5n.yaml --data "$out/A/shapes.yaml" --epochs "${DEMO_EPOCHS:-12}"

for freeze in 0 10 24; do
  chapter "3. From A to B with --freeze $freeze."
  train "freeze$freeze" --weights "$out/pretrained/weights/best.safetensors" --data "$out/B/shapes.yaml" --epochs "${DEMO_TRANSFER:-24}" \
    --freeze $freeze --noplots
done

chapter "4. Thirty percent of the weights are pruned; the rest is tuned again, the zeros stay."
"$bin/yolo-prune" --weights "$out/freeze0/weights/best.safetensors" --amount 0.3 --save "$out/pruned.safetensors"
train pruned --weights "$out/pruned.safetensors" --data "$out/B/shapes.yaml" --epochs "${DEMO_TUNE:-10}" --noplots

chapter "What it cost, and what it brought"
"$bin/frost-compare" "$out"/{pretrained,freeze0,freeze10,freeze24,pruned} --title "Freezing and pruning a YOLOv5n" --html "$out/story.html" \
  --labels "A, from nothing" "B, freeze 0" "B, freeze 10" "B, freeze 24" "B, 30 % pruned"
"$bin/yolo-explain" --weights "$out/freeze0/weights/best.safetensors" --imgsz "$size" --batch-size $batch --freeze 10 \
  --html "$out/explain.html" >/dev/null
echo "What each module keeps, and why: $out/explain.html"
echo "Pictures of the first run: $out/pretrained"
echo "All this took $((SECONDS - start)) seconds."
