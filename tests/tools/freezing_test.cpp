#include <doctest/doctest.h>

#include <algorithm>
#include <string>

#include "engine/checkpoint/safetensors.h"
#include "tests/tools/world.h"

// Freezing as a person uses it: yolo-train's flags, what the files hold afterwards, what is refused.
using namespace frost::tests;
using frost::SafetensorsFile;

namespace {
/// A small network that has seen the data for an epoch: its running statistics are no longer the initial ones.
const std::string& pretrained() {
  static const std::string file = [] {
    const Outcome outcome = world().train("--weights '' --cfg yolov5n.yaml --project freezing --name start");
    REQUIRE(outcome.code == 0);
    return (world().dir / "freezing" / "start" / "weights" / "best.safetensors").string();
  }();
  return file;
}
Outcome tune(const std::string& name, const std::string& flags) {
  return world().run(kBin +
                     "yolo-train --imgsz 64 --batch-size 3 --noplots --workers 2 --project freezing --exist-ok --name " +
                     name + " --weights " + pretrained() + " --data " + world().data() + " " + flags);
}
fs::path weights(const std::string& name, const std::string& file = "last") {
  return world().dir / "freezing" / name / "weights" / (file + ".safetensors");
}
bool in_backbone(const std::string& name) { return std::stoi(name.substr(6)) < 10; }
}  // namespace

TEST_CASE("frozen means frozen: no bit moves in a checkpoint, neither the model's nor the average's, statistics included") {
  const SafetensorsFile before = frost::read_safetensors(pretrained());
  for (const bool batch : {false, true}) {
    CAPTURE(batch);
    const std::string name = batch ? "batch" : "running";
    const Outcome outcome = tune(name, "--freeze 10 --epochs 2 --save-period 1 --nbs 3 --frozen-bn " + name);
    CAPTURE(outcome.err);
    REQUIRE(outcome.code == 0);
    CHECK(outcome.out.find("frozen: 99 of 177 tensors, ") != std::string::npos);
    for (const char* file : {"epoch0", "epoch1", "last"}) {
      CAPTURE(file);
      const SafetensorsFile after = frost::read_safetensors(weights(name, file));
      std::size_t same = 0, moved = 0, statistics_moved = 0;
      for (const auto& [key, tensor] : after.tensors) {
        const std::string plain = key.starts_with("ema.") ? key.substr(4) : key;
        if (!plain.starts_with("model.")) {
          CHECK(!in_backbone(plain.substr(plain.find("model."))));  // optimizer.momentum.model.3...: of what trains alone
          continue;
        }
        const bool equal = tensor.to_f64() == before.tensors.at(plain).to_f64();
        const bool statistic = plain.find("running_") != std::string::npos || plain.ends_with("num_batches_tracked");
        if (in_backbone(plain) && statistic && batch) {
          statistics_moved += !equal;
        } else if (in_backbone(plain)) {
          INFO(key);
          CHECK(equal);
          ++same;
        } else {
          moved += !equal;
        }
      }
      const std::size_t copies = std::string(file) == "last" ? 1 : 2;  // a stripped file holds the averages alone
      CHECK(same == copies * (batch ? 99 : 99 + 99));                  // 33 blocks: 3 parameters, 3 statistics each
      CHECK(statistics_moved == (batch ? copies * 99 : 0));            // as YOLOv5 v7.0 has it
      CHECK(moved > copies * 100);
    }
  }
}

TEST_CASE("--unfreeze-at unfreezes layers, and a resumed run ends with the same bits") {
  for (const char* optimizer : {"SGD", "AdamW"}) {
    CAPTURE(optimizer);
    const Outcome whole = tune("thaw", std::string("--freeze 24 --unfreeze-at 1:10 2:0 --epochs 4 --save-period 1 --nbs 3 "
                                                   "--lr-scale model.0-9:0.1 --optimizer ") +
                                           optimizer);
    CAPTURE(whole.err);
    REQUIRE(whole.code == 0);
    CHECK(whole.out.find("epoch 1: --unfreeze-at 1:10: frozen: 99 of 177 tensors") != std::string::npos);
    CHECK(whole.out.find("epoch 2: --unfreeze-at 2:0: frozen: 0 of 177 tensors, 0 of ") != std::string::npos);
    CHECK(whole.out.find("learning rate x 0.1 for 99 tensors of model.0-9") != std::string::npos);
    const std::string csv = slurp(world().dir / "freezing" / "thaw" / "results.csv");
    CHECK(csv.substr(0, csv.find('\n')).ends_with("x/lr2"));  // three columns, whatever is scaled

    const std::string bits = slurp(weights("thaw"));
    for (const char* from : {"epoch0", "epoch1", "epoch2"}) {
      CAPTURE(from);
      const fs::path kept = world().dir / "freezing" / "kept.safetensors";
      fs::copy_file(weights("thaw", from), kept, fs::copy_options::overwrite_existing);
      const Outcome resumed = world().run(kBin + "yolo-train --resume freezing/thaw/weights/" + from + ".safetensors");
      CAPTURE(resumed.err);
      REQUIRE(resumed.code == 0);
      CHECK((slurp(weights("thaw")) == bits));
      fs::copy_file(kept, weights("thaw", from), fs::copy_options::overwrite_existing);
    }
  }
}

TEST_CASE("--cache-features: the same bits as without, in memory and on disk, batches of another size included") {
  const std::string flags = "--freeze 10 --epochs 3 --hyp no-augmentation --nbs 3 ";  // 8 images in batches of 3, 3, 2
  REQUIRE(tune("plain", flags).code == 0);
  const std::string bits = slurp(weights("plain"));
  for (const char* place : {"ram", "disk"}) {
    CAPTURE(place);
    const Outcome outcome = tune("cached", flags + "--cache-features " + place);
    CAPTURE(outcome.err);
    REQUIRE(outcome.code == 0);
    CHECK(outcome.err.find("WARNING") == std::string::npos);
    CHECK(outcome.out.find("kept features: layers 0 to 9, ") != std::string::npos);
    CHECK(outcome.out.find("; 0 of 9 batches came from there") == std::string::npos);
    CHECK((slurp(weights("cached")) == bits));
    std::size_t files = 0;
    for (const auto& entry : fs::directory_iterator(world().dir / "freezing" / "cached"))
      if (const std::string name = entry.path().filename().string(); name != ".lock") files += name.starts_with(".");
    CHECK(files == 0);  // nothing is left behind
  }
  // The same batches in every epoch: all 3 come from there in epochs 1 and 2, but for the first one, which is computed as a
  // check; then another prefix is kept, and in epoch 4 the first one is checked again.
  const Outcome rect =
      tune("rect", "--freeze 5 --unfreeze-at 3:4 --epochs 5 --hyp no-augmentation --rect --cache-features disk");
  CAPTURE(rect.err);
  REQUIRE(rect.code == 0);
  CHECK(rect.out.find("kept features: layers 0 to 3, ") != std::string::npos);
  CHECK(rect.out.find("; 7 of 15 batches came from there") != std::string::npos);
  // What is unfrozen moves the cut, or ends the cache.
  REQUIRE(tune("thaw_plain", flags + "--unfreeze-at 1:4 2:0").code == 0);
  const std::string thawed = slurp(weights("thaw_plain"));
  const Outcome thaw = tune("thaw_cached", flags + "--unfreeze-at 1:4 2:0 --cache-features");
  REQUIRE(thaw.code == 0);
  CHECK(thaw.out.find("kept features: nothing is frozen any more; 0 of 9 batches") != std::string::npos);
  CHECK((slurp(weights("thaw_cached")) == thawed));
}

TEST_CASE("freezing flags that cannot mean anything are refused with the reason") {
  const auto refused = [&](const std::string& flags, const std::vector<std::string>& words) {
    CAPTURE(flags);
    const Outcome outcome = tune("refused", "--epochs 1 " + flags);
    CAPTURE(outcome.err);
    CHECK(outcome.code == 1);
    CHECK(outcome.err.starts_with("yolo-train: "));
    CHECK(std::count(outcome.err.begin(), outcome.err.end(), '\n') == 1);
    for (const std::string& word : words) CHECK(outcome.err.find(word) != std::string::npos);
  };
  refused("--freeze 'model.*.bm.*'", {"--freeze", "model.*.bm.*", "near it"});
  refused("--freeze 10 --unfreeze-at 3:12", {"--unfreeze-at 3:12", "model.10.conv.weight"});
  refused("--lr-scale model.0-9", {"--lr-scale", "SCALE"});
  refused("--freeze 10 --cache-features", {"--cache-features", "hsv_h", "mosaic", "fliplr", "no-augmentation"});
  refused("--freeze 10 --cache-features --rect", {"hsv_h", "fliplr"});
  refused("--cache-features --hyp no-augmentation", {"--cache-features", "nothing to keep"});
  refused("--freeze 10 --frozen-bn batch --cache-features --hyp no-augmentation", {"--frozen-bn batch", "statistics"});
  refused("--freeze 10 --multi-scale --cache-features --hyp no-augmentation", {"--multi-scale"});
}
