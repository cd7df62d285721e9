#include <doctest/doctest.h>

#include <algorithm>
#include <string>

#include "tests/tools/world.h"

// yolo-train and yolo-val on a small data set, end to end.
using namespace frost::tests;

TEST_CASE("the same seed gives the same bits, whatever the number of loader threads") {
  std::string first;
  for (const char* workers : {"0", "1", "3"}) {
    const Outcome outcome =
        world().run(kBin + "yolo-train --weights '' --cfg yolov5n.yaml --epochs 2 --imgsz 64 --batch-size 4 --noplots" +
                    " --project same --name w --exist-ok --data " + world().data() + " --workers " + workers);
    CAPTURE(outcome.err);
    REQUIRE(outcome.code == 0);
    const std::string weights = slurp(world().dir / "same" / "w" / "weights" / "last.safetensors");
    REQUIRE(weights.size() > 1000000);
    if (first.empty()) first = weights;
    CHECK((weights == first));
    std::filesystem::remove_all(world().dir / "same");
  }
}

TEST_CASE("a run's folder holds what YOLOv5's holds, and yolo-val reads it") {
  const Outcome trained = world().run(kBin +
                                      "yolo-train --weights '' --cfg yolov5n.yaml --epochs 2 --imgsz 64 --batch-size 4 "
                                      "--project runs --name exp --save-period 1 --data " +
                                      world().data());
  CAPTURE(trained.out);
  CAPTURE(trained.err);
  REQUIRE(trained.code == 0);
  const fs::path run = world().dir / "runs" / "exp";
  for (const char* file :
       {"hyp.yaml", "opt.yaml", "results.csv", "summary.json", "weights/last.safetensors", "weights/best.safetensors",
        "weights/epoch1.safetensors", "train_batch0.jpg", "val_batch0_labels.jpg", "val_batch0_pred.jpg"}) {
    INFO(file);
    CHECK(fs::exists(run / file));
  }
  const std::string csv = slurp(run / "results.csv");
  CHECK(csv.starts_with("               epoch,      train/box_loss,"));
  CHECK(std::count(csv.begin(), csv.end(), '\n') == 3);
  CHECK(slurp(run / "opt.yaml").find("epochs: 2") != std::string::npos);
  CHECK(trained.out.find("models.common.SPPF") != std::string::npos);
  CHECK(trained.out.find("Optimizer stripped from") != std::string::npos);
  CHECK(trained.out.find("saved activation") != std::string::npos);

  // A second run gets the next folder, fine-tunes from the first and freezes the backbone.
  const Outcome tuned = world().run(kBin +
                                    "yolo-train --weights runs/exp/weights/best.safetensors --freeze 10 --epochs 1 --imgsz "
                                    "64 --batch-size 4 --noplots --project runs --data " +
                                    world().data());
  CAPTURE(tuned.err);
  REQUIRE(tuned.code == 0);
  CHECK(fs::exists(world().dir / "runs" / "exp2" / "results.csv"));
  CHECK(tuned.out.find("Transferred 349/349 items") != std::string::npos);
  CHECK(tuned.out.find("freezing model.0.conv.weight\nfreezing model.0.bn.weight\nfreezing model.0.bn.bias\n") !=
        std::string::npos);
  CHECK(tuned.out.find("freezing model.10.") == std::string::npos);

  const Outcome val = world().val(
      "--weights runs/exp2/weights/best.safetensors --save-txt --save-conf --save-json --conf-thres 0.0001 --project runs "
      "--name val --data " +
      world().data());
  CAPTURE(val.err);
  CHECK(val.code == 0);
  CHECK(val.out.find("                   all          4") != std::string::npos);
  CHECK(val.out.find("Speed: ") != std::string::npos);
  CHECK(slurp(world().dir / "runs" / "val" / "best_predictions.json").starts_with("["));
  CHECK(fs::exists(world().dir / "runs" / "val" / "labels"));
}

TEST_CASE("--rect, --multi-scale, --single-cls, --optimizer AdamW, --cache and --noval run") {
  for (const char* flags :
       {"--rect", "--multi-scale --nbs 4", "--single-cls", "--optimizer AdamW --cos-lr --label-smoothing 0.1",
        "--cache ram --noval --nosave", "--freeze 10 --frozen-bn batch", "--no-recompute"}) {
    CAPTURE(flags);
    const Outcome outcome =
        world().train(std::string("--weights '' --cfg yolov5n.yaml --project options --exist-ok ") + flags);
    CAPTURE(outcome.err);
    CHECK(outcome.code == 0);
    CHECK(fs::exists(world().dir / "options" / "exp" / "weights" / "last.safetensors"));
  }
}

TEST_CASE("hyp.anchors: AutoAnchor fills the placeholders, and the checkpoint keeps what it found") {
  const Outcome first = world().run(kBin +
                                    "yolo-train --weights '' --cfg yolov5n.yaml --hyp hyp.VOC.yaml --epochs 2 --imgsz 64 "
                                    "--batch-size 4 --noplots --save-period 1 --project anchors --name first --data " +
                                    world().data());
  CAPTURE(first.out);
  CAPTURE(first.err);
  REQUIRE(first.code == 0);
  CHECK(first.out.find("Overriding model.yaml anchors with anchors=3.412\n") != std::string::npos);
  CHECK(first.out.find("Anchors are a poor fit to dataset") != std::string::npos);
  CHECK(first.out.find("Running kmeans for 9 anchors on ") != std::string::npos);
  CHECK(first.out.find("Done ✅") != std::string::npos);

  // A resumed run takes them from the checkpoint and ends with the same bits.
  const fs::path weights = world().dir / "anchors" / "first" / "weights";
  const std::string bits = slurp(weights / "last.safetensors");
  fs::remove(weights / "last.safetensors");
  const Outcome resumed = world().run(kBin + "yolo-train --resume anchors/first/weights/epoch0.safetensors");
  CAPTURE(resumed.err);
  REQUIRE(resumed.code == 0);
  CHECK(resumed.out.find("AutoAnchor") == std::string::npos);
  CHECK((slurp(weights / "last.safetensors") == bits));

  // Trained on with hyperparameters that leave the anchors alone, the model brings its own.
  const Outcome second =
      world().train("--weights anchors/first/weights/best.safetensors --project anchors --name second --exist-ok");
  CAPTURE(second.out);
  CAPTURE(second.err);
  REQUIRE(second.code == 0);
  CHECK(second.out.find("Transferred 349/349 items") != std::string::npos);
  CHECK(second.out.find("1.000 Best Possible Recall (BPR). Current anchors are a good fit") != std::string::npos);

  // With --hyp hyp.VOC.yaml they are placeholders again: all but the anchors is taken over.
  const Outcome third = world().train(
      "--weights anchors/first/weights/best.safetensors --hyp hyp.VOC.yaml --noautoanchor --project anchors --exist-ok");
  CAPTURE(third.err);
  CHECK(third.code == 0);
  CHECK(third.out.find("Transferred 348/349 items") != std::string::npos);
  CHECK(third.out.find("AutoAnchor") == std::string::npos);
}
