#include <sys/stat.h>

#include "tests/source_dir.h"
#include "tests/tools/world.h"

// What people type and what the names they type may stand for, end to end: no tool waits, none takes another value than the
// one that was meant, and a wrong one is answered in one line.
using namespace frost::tests;

namespace {

/// A command that may not take long: a tool that waits ends with 124.
Outcome soon(const std::string& command) { return world().run("timeout 60 " + kBin + command); }

std::string pipe_named(const std::string& name) {
  const fs::path path = world().dir / name;
  fs::create_directories(path.parent_path());
  fs::remove(path);
  REQUIRE(mkfifo(path.c_str(), 0600) == 0);
  return path.string();
}

}  // namespace

TEST_CASE("command lines as YOLOv5's documents have them: shortened flags, in every tool") {
  // Each comes as far as the file that is not there.
  for (const std::string command :
       {"yolo-val --data none.yaml --weight w.pt --img 64 --conf 0.001 --iou 0.65 --batch 4 --work 1",
        "yolo-val --data none.yaml --weights w.pt --img_size 64 --conf_thres=0.001 --max 100 --verb",
        "yolo-train --weight '' --cfg yolov5n.yaml --data none.yaml --epoch 1 --batch_size 4 --img 64 64 --nop --worker 1",
        "yolo-train --weights= --cfg=yolov5n.yaml --data=none.yaml --epochs=1 --batch=4 --multi --label 0.1 --pat 3",
        "yolo-explain --cfg none.yaml --img 64 --batch 4 --free 10",
        "yolo-prune --weights none.pt --am 0.3 --sav out.safetensors",
        "classify-train --data none --mod resnet18 --epoch 1 --img 64 --batch 4 --dec 0.1",
        "classify-val --data none --weight none.pth --img 64 --batch 4",
        "classify-predict --weight none.pth --sour none.jpg"}) {
    CAPTURE(command);
    const Outcome outcome = soon(command);
    CAPTURE(outcome.err);
    CHECK(outcome.code == 1);
    CHECK(outcome.err.find("none") != std::string::npos);
  }
  expect_error(soon("make-shapes --out x --img 64 --trai 0"), "make-shapes", {"--train: must be from 1 to 9999 (given: 0)"},
               2);
  expect_error(soon("frost-compare none --lab a b"), "frost-compare", {"--labels"}, 2);
}

TEST_CASE("command lines that are wrong: exit code 2, what is wrong, and no number that nobody typed") {
  struct Wrong {
    std::string command, message;
  };
  for (const auto& [command, message] : std::vector<Wrong>{
           {"yolo-train --batch-size -1", "--batch-size: must be at least 1; AutoBatch is not supported (given: -1)"},
           {"yolo-train --epochs 0", "--epochs: must be at least 1 (given: 0)"},
           {"yolo-train --epochs ten", "--epochs: a whole number is expected, not 'ten'"},
           {"yolo-train --epochs 1e3", "--epochs: a whole number is expected, not '1e3'"},
           {"yolo-train --img 640 320", "--imgsz: one size for training and validation is expected, not 640 and 320"},
           {"yolo-train --img 640 640 640", "an argument that belongs to no option: 640"},
           {"yolo-train --img 10", "--imgsz: must be from 32 to 8192 (given: 10)"},
           {"yolo-train --label-smoothing nan", "--label-smoothing: a finite number is expected, not 'nan'"},
           {"yolo-train --label-smoothing 1", "--label-smoothing: must be from 0 to 0.99 (given: 1)"},
           {"yolo-train --patience -1", "--patience: must be at least 0 (given: -1)"},
           {"yolo-train --workers -2", "--workers: must be from 0 to 1024 (given: -2)"},
           {"yolo-train --seed -1", "--seed: must be at least 0 (given: -1)"},
           {"yolo-train --no", "ambiguous option: --no could match --no-cuda-graph, --no-recompute, --noautoanchor"},
           {"yolo-train --evolve 300", "--evolve is YOLOv5's, not supported by frost"},
           {"yolo-train --image-weights --quad", "--image-weights is YOLOv5's, not supported by frost; --quad is YOLOv5's"},
           {"yolo-train --wieghts x", "did you mean --weights?"},
           {"yolo-val --iou-tres 0.5 --conf-tresh 1", "--iou-tres (did you mean --iou-thres?); unknown option --conf-tresh"},
           {"yolo-val --conf 1.5", "--conf-thres: must be from 0 to 1 (given: 1.5)"},
           {"yolo-val --augment", "--augment is YOLOv5's, not supported by frost"},
           {"yolo-val --weights", "--weights: 1 required"},
           {"classify-train --lr0 0", "--lr0: must be "},
           {"classify-val --data d --weights w --zzz", "unknown option --zzz"},
       }) {
    CAPTURE(command);
    const Outcome outcome = soon(command);
    expect_error(outcome, command.substr(0, command.find(' ')), {message}, 2);
    CHECK(outcome.err.size() < 400);
  }
  expect_error(soon("yolo-val --weights w --data d --device 0,1"), "yolo-val", {"--device 0,1", "one device"});
  expect_error(soon("yolo-val --weights w --data d --device gpu"), "yolo-val", {"--device gpu"});
}

TEST_CASE("names that stand for a pipe are refused at once, whatever they are given for") {
  const std::string yaml = pipe_named("pipe.yaml"), weights = pipe_named("pipe.pt"), own = pipe_named("pipe.safetensors");
  const std::string refused = ": not a regular file", data = " --data " + world().data(), fresh = " --weights '' --cfg ";
  expect_error(soon("yolo-train" + fresh + "yolov5n.yaml --data " + yaml), "yolo-train", {yaml + refused});
  expect_error(soon("yolo-val --weights w.pt --data " + yaml), "yolo-val", {yaml + refused});
  expect_error(soon("yolo-train" + fresh + yaml + data), "yolo-train", {yaml + refused});
  expect_error(soon("yolo-explain --cfg " + yaml), "yolo-explain", {yaml + refused});
  expect_error(soon("yolo-train" + fresh + "yolov5n.yaml --hyp " + yaml + data), "yolo-train", {yaml + refused});
  for (const std::string& file : {weights, own}) {
    expect_error(soon("yolo-train --weights " + file + data), "yolo-train", {file + refused});
    expect_error(soon("yolo-val --weights " + file + data), "yolo-val", {file + refused});
    expect_error(soon("yolo-prune --save o.safetensors --weights " + file), "yolo-prune", {file + refused});
    expect_error(soon("classify-predict --source x.jpg --weights " + file), "classify-predict", {file + refused});
    expect_error(soon("yolo-train --resume " + file), "yolo-train", {file + refused});
  }
  const std::string options = pipe_named("run/opt.yaml"), last = (world().dir / "run/weights/last.safetensors").string();
  write(last, "x");
  expect_error(soon("yolo-train --resume " + last), "yolo-train", {options + refused});
  const std::string summary = pipe_named("done/summary.json");
  expect_error(soon("frost-compare done"), "frost-compare", {"done/summary.json" + refused});
  expect_error(world().run("timeout 60 bash -c '" + kBin + "yolo-val --weights w.pt --data <(cat " + world().data() + ")'"),
               "yolo-val", {"/dev/fd/", "not a regular file"});
  expect_error(world().run("cat " + world().data() + " | timeout 60 " + kBin + "yolo-val --weights w.pt --data /dev/stdin"),
               "yolo-val", {"/dev/stdin: not a regular file"});

  const fs::path set = world().dir / "piped";
  fs::copy(world().dir / "shapes", set, fs::copy_options::recursive);
  const std::string list = pipe_named("piped/list.txt");
  write(set / "list.yaml", "path: .\ntrain: list.txt\nval: images/val\nnames: [a, b, c, d]\n");
  expect_error(soon("yolo-train" + fresh + "yolov5n.yaml --data " + (set / "list.yaml").string()), "yolo-train",
               {list + refused});
  // A picture and a label cost themselves, a label cache only the time of a scan.
  pipe_named("piped/images/train/zz.jpg");
  pipe_named("piped/labels/train.frost-cache");
  const Outcome outcome =
      soon("yolo-train" + fresh + "yolov5n.yaml --imgsz 64 --epochs 1 --batch-size 4 --noplots --project piped-runs " +
           "--data " + (set / "shapes.yaml").string());
  CAPTURE(outcome.err);
  CHECK(outcome.code == 0);
  CHECK(outcome.out.find("zz.jpg: ignoring corrupt image/label: not a regular file") != std::string::npos);
}

TEST_CASE("folders and empty files are named, unless a built-in file has the name") {
  for (const char* name : {"folder.yaml", "yolov5n", "folder.pt"}) fs::create_directories(world().dir / name);
  for (const char* name : {"empty.yaml", "empty.pt", "empty.safetensors"}) write(world().dir / name, "");
  const std::string data = " --data " + world().data(), folder = "folder.yaml: is a folder, not a file";
  expect_error(soon("yolo-train --weights '' --cfg folder.yaml" + data), "yolo-train", {folder});
  expect_error(soon("yolo-train --weights '' --cfg yolov5n --hyp folder.yaml" + data), "yolo-train", {folder});
  expect_error(soon("yolo-train --weights '' --cfg yolov5n --data folder.yaml"), "yolo-train",
               {"folder.yaml", "is a folder"});
  expect_error(soon("yolo-val --weights folder.pt" + data), "yolo-val", {"folder.pt: is a folder, not a file"});
  CHECK(soon("yolo-train --weights '' --cfg yolov5n --dry-run --imgsz 64" + data).code == 0);
  const std::string empty = "empty.yaml: the file is empty";
  expect_error(soon("yolo-train --weights '' --cfg empty.yaml" + data), "yolo-train", {empty});
  expect_error(soon("yolo-train --weights '' --cfg yolov5n --hyp empty.yaml" + data), "yolo-train", {empty});
  expect_error(soon("yolo-train --weights '' --cfg yolov5n --data empty.yaml"), "yolo-train", {empty});
  for (const std::string weights : {"empty.pt", "empty.safetensors"})
    expect_error(soon("yolo-val --weights " + weights + data), "yolo-val", {weights + ": the file is empty"});
}

TEST_CASE("git-lfs pointers are called that, whatever they stand for") {
  const std::string text = "version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 99\n",
                    pointer = "is a git-lfs pointer";
  for (const char* name : {"lfs.yaml", "lfs.pt", "lfs.safetensors"}) write(world().dir / name, text);
  const std::string data = " --data " + world().data();
  expect_error(soon("yolo-train --weights '' --cfg yolov5n.yaml --data lfs.yaml"), "yolo-train", {"lfs.yaml", pointer});
  expect_error(soon("yolo-train --weights '' --cfg lfs.yaml" + data), "yolo-train", {"lfs.yaml", pointer});
  expect_error(soon("yolo-train --weights '' --cfg yolov5n.yaml --hyp lfs.yaml" + data), "yolo-train",
               {"lfs.yaml", pointer});
  expect_error(soon("yolo-val --weights lfs.pt" + data), "yolo-val", {"lfs.pt", pointer});
  expect_error(soon("yolo-val --weights lfs.safetensors" + data), "yolo-val", {"lfs.safetensors", pointer});
}

TEST_CASE(
    "a key that stands twice: the last one counts in data and model, with both lines named; hyperparameters are refused") {
  const fs::path set = world().dir / "twice";
  fs::copy(world().dir / "shapes", set, fs::copy_options::recursive);
  write(set / "data.yaml",
        "path: .\ntrain: images/val\nval: images/val\nnames: [a, b]\ntrain: images/train\nnames: [a, b, c, d]\n");
  const std::string model = slurp(frost::testing::source_dir() / "models/graph/yamls/yolov5n.yaml");
  write(set / "model.yaml", "width_multiple: 0.5\n" + model);
  const Outcome outcome = soon("yolo-train --weights '' --cfg twice/model.yaml --data twice/data.yaml --dry-run --imgsz 64");
  CAPTURE(outcome.err);
  CHECK(outcome.code == 0);
  CHECK(outcome.err.find("twice/data.yaml: key 'train' stands there twice, in lines 2 and 5; the last one counts") !=
        std::string::npos);
  CHECK(outcome.err.find("twice/data.yaml: key 'names' stands there twice, in lines 4 and 6") != std::string::npos);
  CHECK(outcome.err.find("twice/model.yaml: key 'width_multiple' stands there twice, in lines 1 and ") != std::string::npos);
  write(set / "hyp.yaml", "lr0: 0.1\nlr0: 0.2\n");
  expect_error(soon("yolo-train --weights '' --cfg yolov5n.yaml --hyp twice/hyp.yaml --data " + world().data()),
               "yolo-train", {"twice/hyp.yaml: key 'lr0' stands there twice, in lines 1 and 2"});
}
