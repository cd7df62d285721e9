#include <doctest/doctest.h>

#include <algorithm>
#include <string>

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

}  // namespace

TEST_CASE("classify: train, validate, predict, resume; a run's folder; the same bits for any number of threads") {
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
  refused(world().run(kBin + "classify-val --data x"), "--weights", 2);
  refused(world().run(kBin + "classify-predict --weights x.pth --source y"), "x.pth");
}
