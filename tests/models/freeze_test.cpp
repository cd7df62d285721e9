#include "models/freeze.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <set>

#include "models/graph/detection_model.h"
#include "models/run/option_file.h"
#include "models/yolo/training/trainer.h"
#include "tests/device.h"
#include "tests/models/temp_dataset.h"

// What --freeze means: YOLOv5's two forms, and the terms that go beyond it.
using namespace frost;

namespace {
struct Net {
  frost::testing::TestDevice device;
  DetectionModel model{device, load_model_spec("yolov5n", 80), 1};
  LayerNames layers = model.layers();
  std::vector<std::string> freeze(const std::vector<std::string>& terms) { return frost::freeze(model, layers, terms); }
  std::set<int> frozen_layers(const std::vector<std::string>& terms) {
    std::set<int> numbers;
    for (const std::string& name : freeze(terms)) numbers.insert(std::stoi(name.substr(6)));
    return numbers;
  }
  std::string error(const std::vector<std::string>& terms) {
    try {
      freeze(terms);
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  }
};
Net& net() {
  static Net n;
  return n;
}
std::set<int> span(int first, int last) {
  std::set<int> numbers;
  for (int i = first; i <= last; ++i)
    if (i != 11 && i != 12 && i != 15 && i != 16 && i != 19 && i != 22) numbers.insert(i);  // without parameters
  return numbers;
}
}  // namespace

TEST_CASE("--freeze: one number is the first N layers, several terms are exactly these") {
  CHECK(net().freeze({"0"}).empty());
  CHECK(net().freeze({}).empty());
  CHECK(net().freeze({"10"}).size() == 99);  // docs/spec/freeze_prune.md section 1.2
  CHECK(net().freeze({"24"}).size() == 171);
  CHECK(net().freeze({"25"}).size() == 177);
  CHECK(net().frozen_layers({"10"}) == span(0, 9));
  CHECK(net().frozen_layers({"7", "7"}) == std::set<int>{7});
  CHECK(net().frozen_layers({"0", "1", "2"}) == std::set<int>{0, 1, 2});
  CHECK(net().frozen_layers({"0", "0"}) == std::set<int>{0});
  CHECK(net().frozen_layers({"10-23"}) == span(10, 23));
  CHECK(net().frozen_layers({"backbone"}) == span(0, 9));
  CHECK(net().frozen_layers({"!24"}) == span(0, 23));
  CHECK(net().frozen_layers({"!0-9", "!24"}) == span(10, 23));
  CHECK(net().frozen_layers({"backbone", "!9"}) == span(0, 8));
  CHECK(net().frozen_layers({"0-2", "13", "model.24"}) == std::set<int>{0, 1, 2, 13, 24});
  CHECK(net().frozen_layers({"model.0-9"}) == span(0, 9));
  CHECK(net().frozen_layers({"10", "11", "12", "13"}) == std::set<int>{10, 13});  // two of them have no parameters
}

TEST_CASE("--freeze: names and patterns") {
  const std::vector<std::string> norms = net().freeze({"model.*.bn.*"});
  CHECK(norms.size() == 114);  // 57 blocks
  CHECK(std::all_of(norms.begin(), norms.end(), [](const auto& n) { return n.find(".bn.") != std::string::npos; }));
  CHECK(net().freeze({"model.2.cv1"}) ==
        std::vector<std::string>{"model.2.cv1.conv.weight", "model.2.cv1.bn.weight", "model.2.cv1.bn.bias"});
  CHECK(net().freeze({"model.?.conv.weight"}).size() == 5);  // 0, 1, 3, 5, 7
  CHECK(net().freeze({"0-9", "!*.bn.*"}).size() == 33);
  // Flags are set anew by each call, in the parameters' order.
  CHECK(net().freeze({"model.0.bn.bias", "model.0.conv.weight"}) ==
        std::vector<std::string>{"model.0.conv.weight", "model.0.bn.bias"});
  std::size_t trainable = 0;
  for (const Parameter* p : net().model.parameters()) trainable += p->trainable;
  CHECK(trainable == 175);
}

TEST_CASE("--freeze: what fits nothing is an error that shows what is near") {
  CHECK(net().error({"26"}) == "--freeze 26: the model has 25 layers");
  CHECK(net().error({"1", "25"}) == "--freeze 25: layer 25 does not exist, the model has layers 0 to 24");
  CHECK(net().error({"20-30"}).find("layer 30 does not exist") != std::string::npos);
  CHECK(net().error({"9-3"}).find("runs backwards") != std::string::npos);
  CHECK(net().error({"model.2.cv1.bm.weight"}).find("near it: model.2.cv1.bn.weight") != std::string::npos);
  CHECK(net().error({"model.*.bm.*"}) ==
        "--freeze 'model.*.bm.*': no parameter has such a name; near it: model.0.bn.weight, model.0.bn.bias, "
        "model.1.bn.weight, model.1.bn.bias");
  for (const std::string term : {"backbon", "backbones", "!bakcbone", "back*b"}) {
    CAPTURE(term);
    CHECK(net().error({term}).find("no parameter has such a name; near it: backbone, model") != std::string::npos);
  }
  CHECK(net().error({"-3"}).find("'-3'") != std::string::npos);
  CHECK(net().error({"0-9", "!24"}).find("!24: takes nothing away") != std::string::npos);
  CHECK(net().error({"11", "12"}).find("have no parameters") != std::string::npos);
}

TEST_CASE("glob_distance: edits to the nearest text that a pattern stands for") {
  CHECK(glob_distance("model.*.bn.*", "model.2.cv1.bn.weight") == 0);
  CHECK(glob_distance("model.0.bn", "model.0.bn.bias") == 5);
  CHECK(glob_distance("*", "") == 0);
  CHECK(glob_distance("", "abc") == 3);
  CHECK(glob_distance("kitten", "sitting") == 3);
  CHECK(glob_distance("a?c", "abc") == 0);
  CHECK(glob_distance("a?c", "ac") == 1);
  CHECK(glob_distance("b*n*t", "bn.weight") == 0);
}

TEST_CASE("--freeze survives opt.yaml: a resumed run freezes the same") {
  const test::TempDir dir;
  yolo::TrainConfig config;
  config.freeze = {"0-9", "!model.*.bn.*", "24", "it's"};
  run::write_options(dir / "opt.yaml", config, "run");
  CHECK(run::read_options<yolo::TrainConfig>(dir / "opt.yaml").freeze == config.freeze);
  dir.write("old.yaml", "freeze: [10]\n");  // as YOLOv5 writes it
  CHECK(run::read_options<yolo::TrainConfig>(dir / "old.yaml").freeze == std::vector<std::string>{"10"});
  CHECK(run::options_line(config).find("freeze=[0-9, !model.*.bn.*, 24, it's]") != std::string::npos);
}
