#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "engine/checkpoint/sparse_checkpoint.h"
#include "tests/tools/world.h"

// yolo-prune and what follows: training on, resuming, validating.
using namespace frost;
using namespace frost::tests;

namespace {

/// A model to prune: one epoch from nothing.
std::string dense_model() {
  static const std::string file = [] {
    const Outcome outcome = world().train("--weights '' --cfg yolov5n.yaml --project dense --name m");
    REQUIRE(outcome.code == 0);
    return std::string("dense/m/weights/last.safetensors");
  }();
  return file;
}

Outcome prune(const std::string& flags) { return world().run(kBin + "yolo-prune --weights " + dense_model() + " " + flags); }

std::size_t zeros(const StateDict& state, const std::string& name) {
  const std::vector<float> values = state.at(name).to_f32();
  return static_cast<std::size_t>(std::count(values.begin(), values.end(), 0.0f));
}

/// The masks of `state` are `masks`'s, and all that is masked is zero.
void check_same_zeros(const StateDict& state, const StateDict& masks) {
  std::size_t compared = 0;
  for (const auto& [name, mask] : masks) {
    if (!name.ends_with(kMaskSuffix)) continue;
    CAPTURE(name);
    REQUIRE(state.contains(name));
    CHECK((state.at(name) == mask));
    const std::vector<float> values = state.at(name.substr(0, name.size() - 5)).to_f32();
    bool clean = true;
    for (std::size_t i = 0; i < values.size(); ++i) clean &= mask.bytes[i] != std::byte{0} || values[i] == 0.0f;
    CHECK(clean);
    ++compared;
  }
  CHECK(compared == 60);
}

}  // namespace

TEST_CASE("yolo-prune: the table, a smaller file, the same numbers dense or packed") {
  const Outcome outcome = prune("--amount 0.5 --save half.safetensors --data " + world().data() + " --imgsz 64");
  CAPTURE(outcome.out);
  CAPTURE(outcome.err);
  REQUIRE(outcome.code == 0);
  CHECK(outcome.out.find("        16x3x6x6        1728         864     0.5000\n") != std::string::npos);
  CHECK(outcome.out.find("Model pruned to 0.49") != std::string::npos);
  CHECK(outcome.out.find("(60 of 60 convolutions masked)") != std::string::npos);  // the second validation says it
  const fs::path dir = world().dir;
  const auto dense = static_cast<double>(fs::file_size(dir / dense_model())),
             half = static_cast<double>(fs::file_size(dir / "half.safetensors"));
  CHECK(half / dense == doctest::Approx(0.5 + 1.0 / 32).epsilon(0.03));  // and what is not a convolution's weight

  REQUIRE(world()
              .run(kBin + "yolo-prune --weights half.safetensors --method filters --amount 0.2 --save again.safetensors")
              .code == 0);
  CHECK(read_checkpoint(dir / "again.safetensors").metadata.at("frost.pruned") ==
        "filters 0.2 (l1) of half.safetensors (l1 0.5 of last.safetensors)");

  REQUIRE(prune("--amount 0.5 --dense --save plain.safetensors").code == 0);
  const StateDict packed = read_checkpoint(dir / "half.safetensors").tensors,
                  plain = read_safetensors(dir / "plain.safetensors").tensors;
  CHECK(plain.size() == packed.size() - 60);
  for (const auto& [name, tensor] : plain) CHECK((packed.at(name) == tensor));
  CHECK(static_cast<double>(fs::file_size(dir / "plain.safetensors")) == doctest::Approx(dense).epsilon(0.01));

  for (const char* method : {"--method global --amount 0.4", "--method nm --pattern 2:4"}) {
    CAPTURE(method);
    CHECK(prune(std::string(method) + " --save other.safetensors").code == 0);
    CHECK(world().val("--weights other.safetensors --data " + world().data()).code == 0);
  }
}

TEST_CASE("yolo-train keeps a pruned model's zeros, and a resumed run ends with the same bits") {
  REQUIRE(prune("--amount 0.5 --save tune.safetensors").code == 0);
  const StateDict masks = read_checkpoint(world().dir / "tune.safetensors").tensors;
  for (const char* flags : {"", "--optimizer Adam"}) {
    const Outcome tuned =
        world().run(kBin + "yolo-train --weights tune.safetensors --epochs 3 --imgsz 64 --batch-size 4 --nbs 4" +
                    " --noplots --save-period 1 --project tuned --name t --exist-ok --data " + world().data() + " " + flags);
    CAPTURE(tuned.err);
    REQUIRE(tuned.code == 0);
    CHECK(tuned.out.find("convolutions masked): zeros stay zero") != std::string::npos);
    CHECK(tuned.out.find("all convolutions") != std::string::npos);
    const fs::path run = world().dir / "tuned" / "t";
    check_same_zeros(read_checkpoint(run / "weights" / "last.safetensors").tensors, masks);
    check_same_zeros(read_checkpoint(run / "weights" / "epoch1.safetensors").tensors, masks);
    check_same_zeros(read_checkpoint(run / "weights" / "epoch1.safetensors").tensors.below("ema."), masks);
    CHECK(slurp(run / "summary.json").find("\"model.0.conv.weight\": 0.5") != std::string::npos);

    const std::string bits = slurp(run / "weights" / "last.safetensors");
    const Outcome resumed = world().run(kBin + "yolo-train --resume tuned/t/weights/epoch1.safetensors");
    CAPTURE(resumed.err);
    REQUIRE(resumed.code == 0);
    CHECK((slurp(run / "weights" / "last.safetensors") == bits));
  }
  // What is pruned cannot be resumed, though epoch1 could.
  REQUIRE(world()
              .run(kBin + "yolo-prune --weights tuned/t/weights/epoch1.safetensors --save tuned/t/weights/p.safetensors")
              .code == 0);
  CHECK(world().run(kBin + "yolo-train --resume tuned/t/weights/p.safetensors").err.find("nothing to resume") !=
        std::string::npos);
}

TEST_CASE("--prune-schedule: prunes while it trains, resumes, and best is not a dense epoch's") {
  const Outcome trained = world().run(kBin + "yolo-train --weights " + dense_model() +
                                      " --prune-schedule 0:0.6:2 --epochs 4 --imgsz 64 --batch-size 4 --nbs 4 --noplots"
                                      " --save-period 1 --project gradual --name g --exist-ok --data " +
                                      world().data());
  CAPTURE(trained.err);
  REQUIRE(trained.code == 0);
  const fs::path weights = world().dir / "gradual" / "g" / "weights";
  for (const char* file : {"last.safetensors", "best.safetensors"}) {
    const StateDict state = read_checkpoint(weights / file).tensors;
    CHECK(zeros(state, "model.3.conv.weight") == 11059);  // 0.6 * 18432 = 11059.2
    CHECK(zeros(state, "model.24.m.0.weight") ==
          static_cast<std::size_t>(std::nearbyint(0.6 * static_cast<double>(state.at("model.24.m.0.weight").count()))));
  }
  CHECK(zeros(read_checkpoint(weights / "epoch0.safetensors").tensors, "model.3.conv.weight") < 11059);
  for (const char* from : {"epoch0.safetensors", "epoch2.safetensors"}) {  // in the schedule, and after it
    const std::string bits = slurp(weights / "last.safetensors");
    const Outcome resumed = world().run(kBin + "yolo-train --resume gradual/g/weights/" + from);
    CAPTURE(resumed.err);
    REQUIRE(resumed.code == 0);
    CHECK((slurp(weights / "last.safetensors") == bits));
  }
}

TEST_CASE("--prune-schedule with --unfreeze-at: what is unfrozen is pruned too, and best is not an epoch before that") {
  for (const char* unfreezes : {"1:0", "2:5 3:0"}) {  // within the schedule; after it
    CAPTURE(unfreezes);
    const Outcome trained =
        world().run(kBin + "yolo-train --weights " + dense_model() + " --freeze 10 --unfreeze-at " + unfreezes +
                    " --prune-schedule 0:0.6:2 --epochs 4 --imgsz 64 --batch-size 4 --nbs 4 --noplots"
                    " --save-period 1 --project thaw --name g --exist-ok --data " +
                    world().data());
    CAPTURE(trained.err);
    REQUIRE(trained.code == 0);
    const fs::path weights = world().dir / "thaw" / "g" / "weights";
    for (const char* file : {"last.safetensors", "best.safetensors"}) {
      CAPTURE(file);
      const StateDict state = read_checkpoint(weights / file).tensors;
      CHECK(zeros(state, "model.3.conv.weight") == 11059);   // 0.6 * 18432 = 11059.2, layer 3 has been unfrozen
      CHECK(zeros(state, "model.18.conv.weight") == 22118);  // 0.6 * 36864 = 22118.4, layer 18 was trained
    }
    CHECK(zeros(read_checkpoint(weights / "epoch0.safetensors").tensors, "model.3.conv.weight") ==
          0);  // frozen is not pruned
    const std::string bits = slurp(weights / "last.safetensors");
    for (const char* from : {"epoch0.safetensors", "epoch2.safetensors"}) {
      const fs::path kept = world().dir / "thaw" / "kept.safetensors";
      fs::copy_file(weights / from, kept, fs::copy_options::overwrite_existing);
      const Outcome resumed = world().run(kBin + "yolo-train --resume thaw/g/weights/" + from);
      CAPTURE(resumed.err);
      REQUIRE(resumed.code == 0);
      CHECK((slurp(weights / "last.safetensors") == bits));
      fs::copy_file(kept, weights / from, fs::copy_options::overwrite_existing);
    }
  }
}

TEST_CASE("--method filters: a smaller model that loads, trains on and resumes from its file alone") {
  for (const char* importance : {"l1", "bn"}) {
    const Outcome outcome =
        prune(std::string("--method filters --amount 0.4 --save small.safetensors --importance ") + importance);
    CAPTURE(outcome.err);
    REQUIRE(outcome.code == 0);
    CHECK(outcome.out.find("FLOPs of the convolutions 4") != std::string::npos);
    CHECK(fs::file_size(world().dir / "small.safetensors") <
          0.75 * static_cast<double>(fs::file_size(world().dir / dense_model())));
    const Outcome val = world().val("--weights small.safetensors --data " + world().data());
    CAPTURE(val.err);
    CHECK(val.code == 0);
  }
  const Outcome tuned =
      world().run(kBin + "yolo-train --weights small.safetensors --epochs 2 --imgsz 64 --batch-size 4 --nbs 4" +
                  " --noplots --save-period 1 --project small --name t --exist-ok --data " + world().data());
  CAPTURE(tuned.err);
  REQUIRE(tuned.code == 0);
  CHECK(tuned.out.find("Transferred 349/349 items") != std::string::npos);
  const fs::path weights = world().dir / "small" / "t" / "weights";
  const std::string bits = slurp(weights / "last.safetensors");
  const Outcome resumed = world().run(kBin + "yolo-train --resume small/t/weights/epoch0.safetensors");
  CAPTURE(resumed.err);
  REQUIRE(resumed.code == 0);
  CHECK((slurp(weights / "last.safetensors") == bits));
  CHECK(world().val("--weights small/t/weights/best.safetensors --data " + world().data()).code == 0);

  // A file whose widths do not fit each other.
  const SafetensorsFile file = read_checkpoint(world().dir / "small.safetensors");
  StateDict broken;
  for (const auto& [name, tensor] : file.tensors)
    broken.add(name, name == "model.1.conv.weight" ? HostTensor::from_f32({16, 3, 3, 3}, std::vector<float>(432)) : tensor);
  write_checkpoint(world().dir / "broken.safetensors", broken, file.metadata);
  const Outcome refused = world().val("--weights broken.safetensors --data " + world().data());
  CHECK(refused.code == 1);
  CHECK(refused.err.starts_with("yolo-val: broken.safetensors: "));
  CHECK(std::count(refused.err.begin(), refused.err.end(), '\n') == 1);
}

TEST_CASE("yolo-prune and yolo-val --prune: mistakes in one line") {
  CHECK(prune("--method nm --pattern 4:2 --save x.safetensors").err ==
        "yolo-prune: --pattern '4:2': expected N:M with 0 < N < M <= 64, such as 2:4\n");
  const Outcome too_much = prune("--method filters --amount 0.999 --save x.safetensors");
  CHECK(too_much.code == 1);
  CHECK(
      too_much.err.starts_with("yolo-prune: " + dense_model() + ": pruning filters: 0.999 of the FLOPs cannot be removed"));
  CHECK(std::count(too_much.err.begin(), too_much.err.end(), '\n') == 1);
  CHECK(prune("--save " + (world().dir / dense_model()).string()).err ==
        "yolo-prune: " + dense_model() + ": --save names the file to prune\n");
  for (const auto& [flags, line] : {std::pair{"--method nm --amount 0.5", "--amount: --method nm does not use it"},
                                    std::pair{"--multiple 8", "--multiple: --method l1 does not use it"},
                                    std::pair{"--imgsz 64", "--imgsz requires --data"}}) {
    const Outcome unused = prune(std::string(flags) + " --save x.safetensors");
    CHECK(unused.code == 2);
    CHECK(unused.err == std::string("yolo-prune: ") + line + " (yolo-prune --help lists all options)\n");
  }
  CHECK(prune("--amount 1.5 --save x.safetensors").code == 2);
  CHECK(prune("--method l2 --save x.safetensors").code == 2);
  CHECK(world().run(kBin + "yolo-prune --weights nothing.safetensors --save x").code == 1);
  CHECK(world().train("--weights " + dense_model() + " --prune-schedule 1:2").err.find("expected FROM:TO:EPOCHS") !=
        std::string::npos);
  const Outcome val = world().val("--prune 0.3 --weights " + dense_model() + " --data " + world().data());
  CAPTURE(val.err);
  CHECK(val.code == 0);
  CHECK(val.out.find("Model pruned to 0.2") != std::string::npos);
  CHECK(val.out.find("     pruned") != std::string::npos);
}
