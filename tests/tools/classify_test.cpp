#include <doctest/doctest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <regex>
#include <string>

#include "engine/checkpoint/module_state.h"
#include "engine/checkpoint/sparse_checkpoint.h"
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

  const Outcome val = world().run(kBin +
                                  "classify-val --imgsz 32 --no-cuda-graph --project cls --name val --weights "
                                  "cls/first/weights/best.safetensors --data " +
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
  const Outcome predicted =
      world().run(kBin +
                  "classify-predict --imgsz 32 --no-cuda-graph --project cls --name seen --save-txt --weights "
                  "cls/first/weights/best.safetensors --source " +
                  (data(0) / "val" / "stripes1").string());
  CAPTURE(predicted.err);
  REQUIRE(predicted.code == 0);
  CHECK(has(predicted.out, "image 1/3 "));
  CHECK(has(predicted.out, "3 labels saved to cls/seen/labels"));
  CHECK(fs::exists(world().dir / "cls" / "seen" / "0.png"));
  const std::string lines = slurp(world().dir / "cls" / "seen" / "labels" / "0.txt");
  CHECK(std::count(lines.begin(), lines.end(), '\n') == 3);
  CHECK_FALSE(has(predicted.out, "WARNING"));

  // Each picture keeps its name and its format; labels of one stem share a file, and that is said.
  const frost::Image picture = frost::testing::stripes(0, 1, 5, 40);
  for (const char* name : {"a.BMP", "a.jpg", "b.jpeg", "c.PNG"}) write_image(world().dir / "kinds" / name, picture);
  const Outcome kinds = world().run(kBin +
                                    "classify-predict --imgsz 32 --project cls --name kinds --save-txt --weights "
                                    "cls/first/weights/best.safetensors --source kinds");
  CAPTURE(kinds.err);
  REQUIRE(kinds.code == 0);
  const fs::path kept = world().dir / "cls" / "kinds";
  for (const auto& [name, format] : {std::pair{"a.BMP", "bmp"}, {"a.jpg", "jpeg"}, {"b.jpeg", "jpeg"}, {"c.PNG", "png"}}) {
    CAPTURE(name);
    CHECK(frost::probe_image(kept / name).format == format);
    CHECK(frost::decode_image(kept / name).pixels != picture.pixels);  // its classes are drawn on it
  }
  CHECK(std::distance(fs::directory_iterator(kept), fs::directory_iterator()) == 5);  // and labels/
  CHECK(has(kinds.out, "WARNING: cls/kinds/labels/a.txt is there already: kinds/a.jpg adds its lines\n"));
  const std::string both = slurp(kept / "labels" / "a.txt");
  CHECK(std::count(both.begin(), both.end(), '\n') == 6);
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
  const auto summary = nlohmann::json::parse(slurp(world().dir / "cls" / "head" / "summary.json"));
  CHECK(summary["peak_bytes"]["saved activation"] == 6 * 512 * 4);  // what fc reads of a batch; the frozen part: nothing
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
  const Outcome resumed = world().run(kBin + "classify-train --resume " + last.string() +
                                      " --lr0 1 --workers 0 --cache --no-cuda-graph --no-recompute");
  CAPTURE(resumed.out);
  CAPTURE(resumed.err);
  REQUIRE(resumed.code == 0);
  CHECK(resumed.out.starts_with("WARNING: --resume goes on with the run's own options; ignored: --lr0\n"));
  for (const char* option : {" lr0=0.001,", " workers=0,", " cache=ram,", " cuda_graph=false,", " recompute=false,"})
    CHECK_MESSAGE(has(resumed.out, option), option);
  CHECK(has(resumed.out, "Resuming training from "));
  CHECK(has(resumed.out, " parameters in 5 tensors\n"));
  CHECK((slurp(whole / "weights" / "last.safetensors") == slurp(last)));
  CHECK(slurp(whole / "results.csv") == slurp(cut / "results.csv"));
  CHECK_FALSE(slurp(last).empty());
}

TEST_CASE("classify: --unfreeze-at and --lr-scale; a resumed run ends with the same bits") {
  const std::string flags = "--weights " + detector() +
                            " --feature-extract --unfreeze-at 1:5 2:0 --lr-scale model.0-4:0.1 " +
                            "--epochs 3 --save-period 1 --noplots --exist-ok --name thaw";
  const Outcome whole = train(flags);
  CAPTURE(whole.out);
  CAPTURE(whole.err);
  REQUIRE(whole.code == 0);
  CHECK(has(whole.out, " parameters in 5 tensors\n"));
  CHECK(has(whole.out, "learning rate x 0.1 for "));
  CHECK(has(whole.out, "epoch 1: --unfreeze-at 1:5: frozen: "));
  CHECK(has(whole.out, "epoch 2: --unfreeze-at 2:0: frozen: 0 of "));
  const fs::path weights = world().dir / "cls" / "thaw" / "weights";
  const frost::StateDict start = frost::read_checkpoint(detector()).tensors;
  const auto moved = [&](const char* file, const std::string& name) {
    return frost::read_checkpoint(weights / file).tensors.at(name) != start.at(name);
  };
  for (const char* statistic : {"conv.weight", "bn.running_mean"}) {
    CAPTURE(statistic);
    CHECK_FALSE(moved("epoch0.safetensors", std::string("model.7.") + statistic));
    CHECK(moved("epoch1.safetensors", std::string("model.7.") + statistic));
    CHECK_FALSE(moved("epoch1.safetensors", std::string("model.1.") + statistic));
    CHECK(moved("epoch2.safetensors", std::string("model.1.") + statistic));
  }
  const std::string bits = slurp(weights / "last.safetensors");
  const auto best = [&] { return nlohmann::json::parse(slurp(weights.parent_path() / "summary.json")).at("best"); };
  const nlohmann::json best_of_all = best();
  CHECK(best_of_all.contains("metrics/accuracy_top1"));
  for (const char* from : {"epoch0", "epoch1"}) {
    CAPTURE(from);
    const Outcome resumed = world().run(kBin + "classify-train --resume cls/thaw/weights/" + from + ".safetensors");
    CAPTURE(resumed.err);
    REQUIRE(resumed.code == 0);
    CHECK((slurp(weights / "last.safetensors") == bits));
    CHECK(best() == best_of_all);  // also where it came before the interruption
  }
}

TEST_CASE("classify: --dry-run writes nothing, and the run then takes what was said; what is unfrozen counts") {
  const std::string any = "--weights " + detector() + " --epochs 2 --noplots --name dry ", flags = any + "--freeze 8 ";
  const Outcome said = train(flags + "--dry-run");
  CAPTURE(said.out);
  CAPTURE(said.err);
  REQUIRE(said.code == 0);
  CHECK(has(said.out, "Dry run: batches of 6 at 32x32, f32, Adam."));
  CHECK_FALSE(fs::exists(world().dir / "cls" / "dry"));
  REQUIRE(train(flags).code == 0);
  const auto summary = nlohmann::json::parse(slurp(world().dir / "cls" / "dry" / "summary.json"));
  const auto said_mb = [&](const Outcome& outcome, const std::string& role) {  // the last column: this run's
    std::smatch match;
    REQUIRE(std::regex_search(outcome.out, match, std::regex("\n  " + role + "(?: +[<0-9.]+)? +([<0-9.]+)")));
    return std::string(match[1]);
  };
  const auto& peaks = summary["peak_bytes"];
  for (const std::string role :
       {"parameter", "buffer", "gradient", "optimizer state", "saved activation", "transient activation", "all at a time"}) {
    CAPTURE(role);  // three digits are printed
    CHECK(std::stod(said_mb(said, role)) ==
          doctest::Approx(peaks[role == "all at a time" ? "total" : role].get<double>() / 1e6).epsilon(0.006));
  }
  const Outcome unfrozen = train(flags + "--unfreeze-at 1:0 --dry-run"), all = train(any + "--dry-run");
  CHECK(has(unfrozen.out, "--unfreeze-at 1:0: the last stage counts"));
  CHECK(said_mb(unfrozen, "gradient") == said_mb(all, "gradient"));
  CHECK(said_mb(unfrozen, "gradient") != said_mb(said, "gradient"));
}

TEST_CASE("classify: a classifier is pruned, validated, trained on with its zeros, resumed to the same bits") {
  const auto prune = [&](const std::string& flags) {
    return world().run(kBin + "yolo-prune --weights cls/whole_net/weights/last.safetensors --save pruned.safetensors " +
                       flags);
  };
  REQUIRE(train("--weights " + detector() + " --epochs 1 --name whole_net --noplots").code == 0);
  const Outcome pruned = prune("--amount 0.5 --imgsz 32 --data " + data(0).string());
  CAPTURE(pruned.out);
  CAPTURE(pruned.err);
  REQUIRE(pruned.code == 0);
  CHECK(has(pruned.out, "        16x3x6x6        1728         864     0.5000\n"));
  CHECK(has(pruned.out, "(32 of 32 convolutions masked)"));  // classify-val says it
  const auto size = [&](const char* file) { return static_cast<double>(fs::file_size(world().dir / file)); };
  const char* dense = "cls/whole_net/weights/last.safetensors";
  CHECK(size("pruned.safetensors") / size(dense) == doctest::Approx(0.5 + 1.0 / 32).epsilon(0.01));

  const frost::StateDict masks = frost::read_checkpoint(world().dir / "pruned.safetensors").tensors;
  const auto check_zeros = [&](const frost::StateDict& state) {
    int compared = 0;
    for (const auto& [name, mask] : masks) {
      if (!name.ends_with(frost::kMaskSuffix)) continue;
      CAPTURE(name);
      REQUIRE((state.contains(name) && state.at(name) == mask));
      const std::vector<float> values = state.at(name.substr(0, name.size() - 5)).to_f32();
      std::size_t alive = 0;
      for (std::size_t i = 0; i < values.size(); ++i) alive += mask.bytes[i] == std::byte{0} && values[i] != 0.0f;
      CHECK(alive == 0);
      ++compared;
    }
    CHECK(compared == 32);
  };
  const Outcome tuned =
      train("--weights pruned.safetensors --epochs 2 --save-period 1 --noplots --exist-ok --name tuned", 1);
  CAPTURE(tuned.err);
  REQUIRE(tuned.code == 0);
  CHECK(has(tuned.out, "(32 of 32 convolutions masked): zeros stay zero\n"));
  CHECK(has(tuned.out, "all convolutions"));
  const fs::path run = world().dir / "cls" / "tuned";
  const frost::StateDict last = frost::read_checkpoint(run / "weights" / "last.safetensors").tensors;
  check_zeros(last);
  CHECK(last.at("model.3.conv.weight") != masks.at("model.3.conv.weight"));  // the others learn
  check_zeros(frost::read_checkpoint(run / "weights" / "epoch0.safetensors").tensors);
  check_zeros(frost::read_checkpoint(run / "weights" / "epoch0.safetensors").tensors.below("ema."));
  CHECK(has(slurp(run / "summary.json"), "\"model.0.conv.weight\": 0.5"));
  const std::string bits = slurp(run / "weights" / "last.safetensors");
  REQUIRE(world().run(kBin + "classify-train --resume cls/tuned/weights/epoch0.safetensors").code == 0);
  CHECK((slurp(run / "weights" / "last.safetensors") == bits));

  for (const char* method : {"--method global --amount 0.4", "--method nm", "--amount 0.3 --dense"}) {
    CAPTURE(method);
    CHECK(prune(method).code == 0);
    const frost::StateDict state = frost::read_checkpoint(world().dir / "pruned.safetensors").tensors;
    CHECK(state.contains("model.3.conv.weight.mask") == !has(method, "--dense"));
  }
}

TEST_CASE("classify: --method filters makes a smaller classifier that trains on and resumes from its file alone") {
  REQUIRE(train("--model resnet18 --epochs 1 --name broad --noplots").code == 0);
  const Outcome pruned = world().run(kBin + "yolo-prune --weights cls/broad/weights/last.safetensors --method filters " +
                                     "--amount 0.4 --save narrow.safetensors");
  CAPTURE(pruned.err);
  REQUIRE(pruned.code == 0);
  CHECK(has(pruned.out, "FLOPs of the convolutions 4"));
  const auto bench_mb = [](const std::string& model, const std::string& flags) {  // an inference's tensors
    const Outcome timed =
        world().run(kBin + "frost-bench --precision f32 --imgsz 64 --batch-size 2 --repeats 1 --model " + model + flags);
    CAPTURE(timed.err);
    REQUIRE(timed.code == 0);
    std::smatch row;
    REQUIRE(std::regex_search(timed.out, row,
                              std::regex("\n" + model + " inference 64 b2 f32 +[0-9.]+ +[0-9.]+ +[0-9]+% +([0-9.]+)")));
    CHECK(has(timed.out, model + " step 64 b2 f32 head alone ") == flags.empty());
    return std::stod(row[1]);
  };
  CHECK(bench_mb("narrow.safetensors", "") < 0.8 * bench_mb("cls/broad/weights/last.safetensors", " --infer"));
  const Outcome tuned = train("--weights narrow.safetensors --epochs 2 --save-period 1 --noplots --exist-ok --name narrow");
  CAPTURE(tuned.err);
  REQUIRE(tuned.code == 0);
  CHECK(has(tuned.out, "Transferred 122/122 items"));
  const std::string last = "cls/narrow/weights/last.safetensors", bits = slurp(world().dir / last);
  CHECK(bits.size() < 0.8 * static_cast<double>(fs::file_size(world().dir / "cls/broad/weights/last.safetensors")));
  REQUIRE(world().run(kBin + "classify-train --resume cls/narrow/weights/epoch0.safetensors").code == 0);
  CHECK((slurp(world().dir / last) == bits));

  // The same widths with fresh values, and again from the file alone.
  const Outcome fresh =
      train("--weights narrow.safetensors --pretrained false --epochs 2 --save-period 1 --noplots --exist-ok --name fresh");
  CAPTURE(fresh.err);
  REQUIRE(fresh.code == 0);
  CHECK_FALSE(has(fresh.out, "Transferred"));
  const fs::path anew = world().dir / "cls" / "fresh" / "weights" / "last.safetensors";
  const frost::StateDict narrow = frost::read_checkpoint(world().dir / last).tensors,
                         drawn = frost::read_checkpoint(anew).tensors;
  for (const auto& [name, tensor] : narrow) {
    CAPTURE(name);
    CHECK(drawn.at(name).shape == tensor.shape);
    if (!name.ends_with("conv1.weight")) continue;
    const std::vector<float> values = drawn.at(name).to_f32();
    CHECK(std::count(values.begin(), values.end(), 0.0f) == 0);
    CHECK(drawn.at(name) != tensor);
  }
  const std::string fresh_bits = slurp(anew);
  REQUIRE(world().run(kBin + "classify-train --resume cls/fresh/weights/epoch0.safetensors").code == 0);
  CHECK((slurp(anew) == fresh_bits));
  CHECK(world().run(kBin + "classify-val --imgsz 32 --project cls --weights " + last + " --data " + data(0).string()).code ==
        0);

  // A file that holds nothing but torchvision's names.
  frost::write_safetensors(world().dir / "bare.safetensors",
                           frost::read_checkpoint(world().dir / "cls/broad/weights/last.safetensors").tensors);
  REQUIRE(world().run(kBin + "yolo-prune --weights bare.safetensors --save bare_half.safetensors --amount 0.5").code == 0);
  const std::vector<float> halved =
      frost::read_checkpoint(world().dir / "bare_half.safetensors").tensors.at("layer1.0.conv1.weight").to_f32();
  CHECK(std::count(halved.begin(), halved.end(), 0.0f) == 18432);  // of 64x64x3x3

  // Widths that do not fit each other.
  const frost::SafetensorsFile file = frost::read_checkpoint(world().dir / "narrow.safetensors");
  frost::StateDict broken;
  for (const auto& [name, tensor] : file.tensors)
    broken.add(name, name == "layer1.0.conv1.weight" ? frost::HostTensor::from_f32({16, 3, 3, 3}, std::vector<float>(432))
                                                     : tensor);
  frost::write_checkpoint(world().dir / "broken.safetensors", broken, file.metadata);
  const Outcome refused = world().run(kBin + "classify-val --weights broken.safetensors --data " + data(0).string());
  CHECK(refused.code == 1);
  CHECK(refused.err.starts_with("classify-val: broken.safetensors: "));
  CHECK(std::count(refused.err.begin(), refused.err.end(), '\n') == 1);
}

TEST_CASE("classify: --prune-schedule prunes while it trains") {
  const Outcome trained = train("--weights " + detector() + " --prune-schedule 0:0.6:2 --epochs 3 --noplots --name gradual");
  CAPTURE(trained.err);
  REQUIRE(trained.code == 0);
  for (const char* file : {"last.safetensors", "best.safetensors"}) {  // no dense epoch can be the best
    const std::vector<float> values = frost::read_checkpoint(world().dir / "cls" / "gradual" / "weights" / file)
                                          .tensors.at("model.3.conv.weight")
                                          .to_f32();
    CHECK(std::count(values.begin(), values.end(), 0.0f) == 11059);  // 0.6 * 18432 = 11059.2
  }
}

TEST_CASE("classify: --prune-schedule with --unfreeze-at; a resumed run ends with the same bits") {
  const Outcome whole = train("--weights " + detector() +
                              " --freeze 5 --unfreeze-at 1:2 2:0 --prune-schedule 0:0.6:2 --epochs 3 --save-period 1 "
                              "--noplots --exist-ok --name both");
  CAPTURE(whole.err);
  REQUIRE(whole.code == 0);
  const fs::path weights = world().dir / "cls" / "both" / "weights";
  const auto zeros = [&](const char* file, const std::string& name) {
    const std::vector<float> values = frost::read_checkpoint(weights / file).tensors.at(name).to_f32();
    return std::count(values.begin(), values.end(), 0.0f);
  };
  CHECK(zeros("epoch0.safetensors", "model.3.conv.weight") == 0);    // frozen is not pruned
  CHECK(zeros("last.safetensors", "model.3.conv.weight") == 11059);  // 0.6 * 18432 = 11059.2, trained within the schedule
  CHECK(zeros("last.safetensors", "model.1.conv.weight") == 2765);   // 0.6 * 4608 = 2764.8, trained after it
  const std::string bits = slurp(weights / "last.safetensors");
  for (const char* from : {"epoch0", "epoch1"}) {
    CAPTURE(from);
    const Outcome resumed = world().run(kBin + "classify-train --resume cls/both/weights/" + from + ".safetensors");
    CAPTURE(resumed.err);
    REQUIRE(resumed.code == 0);
    CHECK((slurp(weights / "last.safetensors") == bits));
  }
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
  refused(train("--freeze 6"), "--freeze 6 leaves nothing to train");
  refused(train("--freeze 3 --unfreeze-at 2:0 --epochs 2"), "--unfreeze-at 2:0: training ends after 2 epochs");
  refused(train("--prune-schedule 1:2"), "expected FROM:TO:EPOCHS");
  refused(train("--model resnet18 --weights " + detector()), "becomes a yolov5n-cls, --model says resnet18");
  refused(world().run(kBin + "classify-val --data x"), "--weights", 2);
  refused(world().run(kBin + "classify-predict --weights x.pth --source y"), "x.pth");
}
