#include <doctest/doctest.h>

#include <algorithm>
#include <string>

#include "engine/checkpoint/module_state.h"
#include "models/graph/detection_model.h"
#include "models/zoo/yolo_checkpoint.h"
#include "tests/models/stripes.h"
#include "tests/tools/world.h"

// classify-train, classify-val and classify-predict on drawn stripes, end to end.
using namespace frost::tests;

namespace {

/// Two families of stripes, three classes each.
const fs::path& data(int family) {
  static const fs::path folders[2] = {world().dir / "stripes0", world().dir / "stripes1"};
  if (!fs::exists(folders[family])) frost::testing::write_stripes(folders[family], family, 3, 3);
  return folders[family];
}
Outcome train(const std::string& flags, int family = 0) {
  return world().run(kBin + "classify-train --imgsz 32 --batch-size 6 --project cls --data " + data(family).string() + " " +
                     flags);
}
bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

/// A YOLOv5n detector with fresh weights.
std::string detector() {
  static const fs::path file = world().dir / "detector.safetensors";
  if (!fs::exists(file)) {
    frost::Device device(frost::make_cpu_backend());
    frost::DetectionModel model(device, frost::load_model_spec("yolov5n", 4), 3);
    frost::YoloCheckpoint checkpoint;
    checkpoint.yaml_text = model.spec().text;
    checkpoint.yaml_file = "yolov5n.yaml";
    checkpoint.names = model.names;
    checkpoint.strides = model.detect().strides;
    checkpoint.nc = 4;
    checkpoint.state = frost::state_of(model);
    save_yolo_checkpoint(file, checkpoint);
  }
  return file.string();
}

}  // namespace

TEST_CASE("classify: train, validate, predict; a run's folder; the same bits for any number of threads") {
  const Outcome trained = train("--model yolov5n-cls --epochs 2 --name first --workers 2");
  CAPTURE(trained.out);
  CAPTURE(trained.err);
  REQUIRE(trained.code == 0);
  const fs::path run = world().dir / "cls" / "first";
  for (const char* file : {"opt.yaml", "results.csv", "train_images.jpg", "test_images.jpg", "confusion_matrix.csv",
                           "weights/last.safetensors", "weights/best.safetensors"}) {
    INFO(file);
    CHECK(fs::exists(run / file));
  }
  const std::string csv = slurp(run / "results.csv");
  CHECK(
      csv.starts_with("                  epoch,             train/loss,               val/loss,  metrics/accuracy_top1,"
                      "  metrics/accuracy_top5,                   lr/0\n                      0,"));
  CHECK(csv.ends_with("                  1e-05\n"));  // after the last epoch: a hundredth of 0.001
  CHECK(has(trained.out, "     Epoch    Memory  train_loss    val_loss    top1_acc    top5_acc\n"));
  CHECK(has(trained.out, "                     all           9"));
  CHECK(has(trained.out, "Starting yolov5n-cls training on "));
  const std::string bits = slurp(run / "weights" / "last.safetensors");

  REQUIRE(train("--model yolov5n-cls --epochs 2 --name again --workers 0 --nosave --noplots").code == 0);
  CHECK((slurp(world().dir / "cls" / "again" / "weights" / "last.safetensors") == bits));

  const Outcome val = world().run(
      kBin + "classify-val --imgsz 32 --project cls --name val --weights cls/first/weights/best.safetensors --data " +
      data(0).string());
  CAPTURE(val.err);
  REQUIRE(val.code == 0);
  CHECK(has(val.out, "                stripes2           3"));
  CHECK(has(val.out, "true \\ predicted"));
  CHECK(has(val.out, "Speed: "));
  CHECK_FALSE(has(val.out, "WARNING"));
  fs::create_directories(world().dir / "renamed");
  fs::copy(data(0) / "val", world().dir / "renamed" / "val", fs::copy_options::recursive);
  fs::rename(world().dir / "renamed" / "val" / "stripes1", world().dir / "renamed" / "val" / "stripes11");
  const Outcome renamed = world().run(
      kBin + "classify-val --imgsz 32 --project cls --weights cls/first/weights/best.safetensors --data renamed");
  CHECK(renamed.code == 0);
  CHECK(has(renamed.out,
            "WARNING: cls/first/weights/best.safetensors: class 1 is 'stripes1', in renamed/val it is "
            "'stripes11'\n"));
  fs::remove_all(world().dir / "renamed" / "val" / "stripes0");
  CHECK(world()
            .run(kBin + "classify-val --imgsz 32 --project cls --weights cls/first/weights/best.safetensors --data renamed")
            .code == 1);
  const Outcome predicted = world().run(kBin +
                                        "classify-predict --imgsz 32 --project cls --name seen --save-txt --weights "
                                        "cls/first/weights/best.safetensors --source " +
                                        (data(0) / "val" / "stripes1").string());
  CAPTURE(predicted.err);
  REQUIRE(predicted.code == 0);
  CHECK(has(predicted.out, "image 1/3 "));
  CHECK(has(predicted.out, "3 labels saved to cls/seen/labels"));
  CHECK(fs::exists(world().dir / "cls" / "seen" / "0.png"));
  const std::string lines = slurp(world().dir / "cls" / "seen" / "labels" / "0.txt");
  CHECK(std::count(lines.begin(), lines.end(), '\n') == 3);
}

TEST_CASE("classify: transfer from the command line: a new head alone, then everything") {
  REQUIRE(train("--model resnet18 --epochs 1 --name base --noplots").code == 0);
  const Outcome head =
      train("--weights cls/base/weights/best.safetensors --feature-extract --epochs 1 --name head --noplots", 1);
  CAPTURE(head.out);
  CAPTURE(head.err);
  REQUIRE(head.code == 0);
  CHECK(has(head.out, "fc: 3 classes in cls/base/weights/best.safetensors, 3 here: a new fc.weight and fc.bias\n"));
  CHECK(has(head.out, "1539 of 11178051 parameters in 2 tensors\n  fc.weight 3x512\n  fc.bias 3\n"));
  const Outcome part = train("--weights cls/head/weights/best.safetensors --freeze 3 --epochs 1 --name part --noplots", 1);
  CHECK(part.code == 0);
  CHECK(has(part.out, "Transferred 122/122 items"));
}

TEST_CASE("classify: on a detector's backbone a new head is all of model.9") {
  const std::string flags = "--weights " + detector() + " --feature-extract --epochs 1 --noplots --name ";
  const Outcome head = train(flags + "detector");
  CAPTURE(head.out);
  CAPTURE(head.err);
  REQUIRE(head.code == 0);
  CHECK(has(head.out, "model.9.* is new\n"));
  CHECK(has(head.out,
            " parameters in 5 tensors\n  model.9.conv.conv.weight 1280x256x1x1\n  model.9.conv.bn.weight 1280\n"
            "  model.9.conv.bn.bias 1280\n  model.9.linear.weight 3x1280\n  model.9.linear.bias 3\n"));
  CHECK(has(slurp(world().dir / "cls" / "detector" / "opt.yaml"), "!model.9"));
  // A bare --pretrained is true.
  const Outcome bare = train(flags + "bare --pretrained");
  CHECK(bare.code == 0);
  CHECK(has(bare.out, "Transferred "));
  CHECK_FALSE(has(train("--weights " + detector() + " --epochs 1 --noplots --pretrained false").out, "Transferred "));
}

TEST_CASE("classify: an interrupted run, resumed, equals a whole one, bit for bit; with dropout") {
  const std::string flags = "--weights " + detector() + " --feature-extract --dropout 0.2 --epochs 25 --noplots --name ";
  const fs::path whole = world().dir / "cls" / "whole", cut = world().dir / "cls" / "cut",
                 last = cut / "weights" / "last.safetensors";
  REQUIRE(train(flags + "whole").code == 0);
  const Outcome stopped = train(flags + "cut & pid=$!; for i in $(seq 600); do test -f " + last.string() +
                                " && break; sleep 0.05; done; kill -INT $pid; wait $pid");
  CAPTURE(stopped.err);
  REQUIRE(stopped.code == 1);
  CHECK(has(stopped.err, "interrupted"));
  const Outcome resumed = world().run(kBin + "classify-train --resume " + last.string());
  CAPTURE(resumed.out);
  CAPTURE(resumed.err);
  REQUIRE(resumed.code == 0);
  CHECK(has(resumed.out, "Resuming training from "));
  CHECK(has(resumed.out, " parameters in 5 tensors\n"));
  CHECK((slurp(whole / "weights" / "last.safetensors") == slurp(last)));
  CHECK(slurp(whole / "results.csv") == slurp(cut / "results.csv"));
  CHECK_FALSE(slurp(last).empty());
}

TEST_CASE("classify: mistakes are one line") {
  const auto refused = [](const Outcome& outcome, const std::string& part, int code = 1) {
    CAPTURE(outcome.err);
    CHECK(outcome.code == code);
    CHECK(has(outcome.err, part));
    CHECK(std::count(outcome.err.begin(), outcome.err.end(), '\n') == 1);
  };
  refused(train("--model resnet19"), "--model resnet19 not found. Available models are: resnet18");
  refused(train("--weights nothing.pth"), "nothing.pth");
  refused(world().run(kBin + "classify-train --data nowhere"), "nowhere: not found");
  refused(world().run(kBin + "classify-train"), "--data is missing");
  refused(train("--lr0 fast"), "--lr0", 2);
  refused(train("--feature-extract"), "--feature-extract needs --weights: ");
  refused(train("--feature-extract --pretrained false --weights " + detector()), "--feature-extract needs --weights: ");
  refused(train("--feature-extract --freeze 3 --weights " + detector()), "leave --freeze out");
  refused(train("--model resnet18 --weights " + detector()), "becomes a yolov5n-cls, --model says resnet18");
  refused(world().run(kBin + "classify-val --data x"), "--weights", 2);
  refused(world().run(kBin + "classify-predict --weights x.pth --source y"), "x.pth");
}
