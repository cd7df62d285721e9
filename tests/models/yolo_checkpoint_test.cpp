#include "models/zoo/yolo_checkpoint.h"

#include <doctest/doctest.h>
#include <yaml-cpp/yaml.h>

#include <chrono>
#include <cmath>
#include <iostream>

#include "engine/checkpoint/torch_file.h"
#include "tests/engine/torch_builder.h"
#include "tests/golden/golden.h"

using namespace frost;
using namespace frost::build;
using nlohmann::json;

TEST_CASE("the released yolov5n.pt holds what golden/checkpoints.json says") {
  if (!golden::have("weights/yolov5n.pt") || !golden::have("golden/checkpoints.json")) return;
  const auto path = golden::shared_dir() / "weights" / "yolov5n.pt";
  std::ifstream in(golden::shared_dir() / "golden" / "checkpoints.json");
  const auto expected = nlohmann::ordered_json::parse(in).at("g.pt");

  double best_ms = 1e9;
  YoloCheckpoint c;
  for (int i = 0; i < 5; ++i) {
    const auto start = std::chrono::steady_clock::now();
    c = load_yolo_checkpoint(path);
    best_ms = std::min(best_ms, std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count());
  }
  MESSAGE("load_yolo_checkpoint(yolov5n.pt): ", best_ms, " ms, the best of 5");

  CHECK(c.source == "model");
  CHECK(c.epoch == expected["epoch"].get<int>());
  CHECK(c.best_fitness == expected["best_fitness"][0].get<double>());
  CHECK(c.nc == 80);
  CHECK(c.strides == expected["stride"].get<std::vector<float>>());
  CHECK(c.bn_eps == 0.001);
  CHECK(c.bn_momentum == 0.03);
  CHECK(c.hyp.at("label_smoothing") == 0.0);
  CHECK(c.hyp.at("obj") == 0.7);
  CHECK(c.yaml_file == "yolov5n1.yaml");
  CHECK(c.warnings.empty());
  REQUIRE(c.names.size() == expected["names"].size());
  for (std::size_t i = 0; i < c.names.size(); ++i) CHECK(c.names[i] == expected["names"][std::to_string(i)].get<std::string>());

  REQUIRE(c.state.size() == 350);
  double total = 0;
  std::int64_t parameters = 0;
  auto row = expected["state_dict"].begin();
  for (const auto& [name, tensor] : c.state) {
    CAPTURE(name);
    CHECK(name == row.key());
    CHECK(tensor.shape == row.value()[0].get<std::vector<std::int64_t>>());
    CHECK((tensor.dtype == DType::f16 ? "float16" : tensor.dtype == DType::i64 ? "int64" : "?") == row.value()[1].get<std::string>());
    double sum = 0, absolute = 0;
    for (const double v : tensor.to_f64()) sum += v, absolute += std::abs(v);
    // f16 values add up exactly in f64 but for the order of a few roundings
    CHECK(sum == doctest::Approx(row.value()[2].get<double>()).epsilon(1e-11));
    CHECK(absolute == doctest::Approx(row.value()[3].get<double>()).epsilon(1e-12));
    total += absolute;
    if (!name.ends_with("anchors") && !name.ends_with("anchor_grid") && name.find(".running_") == name.npos && tensor.dtype == DType::f16)
      parameters += tensor.count();
    ++row;
  }
  CHECK(parameters == expected["parameters"].get<std::int64_t>());
  // the total leaves out the counters and both anchor buffers or not: compare what the rows add up to
  double rows = 0;
  for (const auto& [name, value] : expected["state_dict"].items()) rows += value[3].get<double>();
  CHECK(total == doctest::Approx(rows).epsilon(1e-12));

  const auto anchors = c.state.at("model.24.anchors").to_f32();
  std::size_t i = 0;
  for (const auto& level : expected["head_anchor_buffer"])
    for (const auto& anchor : level)
      for (const auto& value : anchor) CHECK(anchors[i++] == value.get<float>());

  const YAML::Node yaml = YAML::Load(c.yaml_text);
  const auto same = [&](const auto& self, const YAML::Node& node, const nlohmann::ordered_json& want) -> void {
    CAPTURE(want.dump());
    if (want.is_object()) {
      CHECK(node.size() == want.size());
      for (const auto& [key, value] : want.items()) self(self, node[key], value);
    } else if (want.is_array()) {
      REQUIRE(node.IsSequence());
      REQUIRE(node.size() == want.size());
      for (std::size_t k = 0; k < want.size(); ++k) self(self, node[k], want[k]);
    } else if (want.is_string()) {
      CHECK(node.as<std::string>() == want.get<std::string>());
    } else if (want.is_boolean()) {
      CHECK(node.as<bool>() == want.get<bool>());
    } else {
      CHECK(node.as<double>() == want.get<double>());
    }
  };
  same(same, yaml, expected["yaml"]);
  CHECK(c.activations.at("model.0") == "nn.SiLU()");
}
