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
  for (std::size_t i = 0; i < c.names.size(); ++i)
    CHECK(c.names[i] == expected["names"][std::to_string(i)].get<std::string>());

  REQUIRE(c.state.size() == 350);
  double total = 0;
  std::int64_t parameters = 0;
  auto row = expected["state_dict"].begin();
  for (const auto& [name, tensor] : c.state) {
    CAPTURE(name);
    CHECK(name == row.key());
    CHECK(tensor.shape == row.value()[0].get<std::vector<std::int64_t>>());
    CHECK((tensor.dtype == DType::f16   ? "float16"
           : tensor.dtype == DType::i64 ? "int64"
                                        : "?") == row.value()[1].get<std::string>());
    double sum = 0, absolute = 0;
    for (const double v : tensor.to_f64()) sum += v, absolute += std::abs(v);
    // f16 values add up exactly in f64 but for the order of a few roundings
    CHECK(sum == doctest::Approx(row.value()[2].get<double>()).epsilon(1e-11));
    CHECK(absolute == doctest::Approx(row.value()[3].get<double>()).epsilon(1e-12));
    total += absolute;
    if (!name.ends_with("anchors") && !name.ends_with("anchor_grid") && name.find(".running_") == name.npos &&
        tensor.dtype == DType::f16)
      parameters += tensor.count();
    ++row;
  }
  CHECK(parameters == expected["parameters"].get<std::int64_t>());
  CHECK(total == doctest::Approx(expected["total_abs_sum"].get<double>()).epsilon(1e-12));

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

namespace {

struct Built {
  std::string pickle;
  Pairs storages;
  std::string file() const { return torch_zip(pickle, storages); }
};

/// A detector of two layers, Conv and Detect, as YOLOv5 would pickle it; each member spoils or varies one thing.
struct Tiny {
  std::string act = object("torch.nn.modules.activation", "SiLU", {{"inplace", boolean(true)}});
  std::string model_class = "DetectionModel", model_module = "models.yolo", head_class = "Detect";
  std::string names = dict({});  // filled by build() unless set
  std::string conv_module{};     // instead of layer 0
  std::string extra_yaml_value = text("tiny");
  double eps = 1e-3, anchor = 1.25;
  int conv_in = 3, rows = 14, head_from = 0;
  bool names_as_list = false, with_ema = false, only_object = false, data_parallel = false, no_stride = false, nan = false;
  Pairs top{};  // replaces or adds top-level keys

  Built build() const {
    Built out;
    const auto floats = [&](std::vector<float> values, const std::vector<std::int32_t>& size) {
      const std::string key = std::to_string(out.storages.size());
      std::vector<std::int32_t> stride(size.size(), 1);
      for (std::size_t d = size.size(); d-- > 1;) stride[d - 1] = stride[d] * size[d];
      const auto count = static_cast<std::int32_t>(values.size());
      out.storages.emplace_back(key, raw(values));
      return tensor(storage("FloatStorage", key, count), 0, size, stride);
    };
    const auto parameter = [&](const std::string& t) {
      return reduce(global("torch._utils", "_rebuild_parameter"), {t, boolean(true), ordered({})});
    };
    const auto module = [&](const char* from, const char* type, const Pairs& parameters, const Pairs& buffers,
                            const Pairs& children, Pairs own) {
      Pairs all = {{"training", boolean(false)}, {"_parameters", ordered(parameters)}, {"_buffers", ordered(buffers)}};
      all.emplace_back("_non_persistent_buffers_set", reduce(global("__builtin__", "set"), {list({text("hidden")})}));
      all.emplace_back("_forward_hooks", ordered({}));
      all.emplace_back("_modules", ordered(children));
      all.insert(all.end(), own.begin(), own.end());
      return object(from, type, all);
    };
    const auto network = [&](float first) {
      std::vector<float> weight(2 * 3, first);
      if (nan) weight[1] = NAN;
      const auto conv = module("torch.nn.modules.conv", "Conv2d",
                               {{"weight", parameter(floats(weight, {2, 3, 1, 1}))}, {"bias", none()}}, {}, {},
                               {{"in_channels", integer(conv_in)},
                                {"out_channels", integer(2)},
                                {"kernel_size", integers({1, 1})},
                                {"groups", integer(1)}});
      const auto bn = module("torch.nn.modules.batchnorm", "BatchNorm2d",
                             {{"weight", floats({1, 2}, {2})}, {"bias", floats({3, 4}, {2})}},
                             {{"running_mean", floats({5, 6}, {2})}, {"hidden", floats({0, 0}, {2})}}, {},
                             {{"num_features", integer(2)}, {"eps", real(eps)}, {"momentum", real(0.03)}});
      const auto layer = conv_module.empty() ? module("models.common", "Conv", {}, {},
                                                      {{"conv", conv}, {"bn", bn}, {"act", act}}, {{"f", integer(-1)}})
                                             : conv_module;
      const auto out_conv =
          module("torch.nn.modules.conv", "Conv2d",
                 {{"weight", floats(std::vector<float>(static_cast<std::size_t>(rows) * 2, .5f), {rows, 2, 1, 1})}}, {}, {},
                 {{"in_channels", integer(2)},
                  {"out_channels", integer(rows)},
                  {"kernel_size", integers({1, 1})},
                  {"groups", integer(1)}});
      const auto outs = module("torch.nn.modules.container", "ModuleList", {}, {}, {{"0", out_conv}}, {});
      const auto head = module(
          "models.yolo", head_class.c_str(), {}, {{"anchors", floats({static_cast<float>(anchor), 2, 3, 4}, {1, 2, 2})}},
          {{"m", outs}}, {{"nc", integer(2)}, {"na", integer(2)}, {"nl", integer(1)}, {"f", list({integer(head_from)})}});
      const auto layers = module("torch.nn.modules.container", "Sequential", {}, {}, {{"0", layer}, {"1", head}}, {});
      const auto yaml = dict(
          {{"nc", integer(80)},
           {"depth_multiple", real(0.33)},
           {"width_multiple", real(0.25)},
           {"anchors", list({list({integer(10), integer(16), integer(24), integer(32)})})},
           {"backbone", list({list({integer(-1), integer(1), text("Conv"),
                                    list({integer(2), integer(1), none(), boolean(true), text("None")})})})},
           {"head", list({list({list({integer(0)}), integer(1), text("Detect"), list({text("nc"), text("anchors")})})})},
           {"note", extra_yaml_value}});
      Pairs own = {{"yaml", yaml}, {"hyp", dict({{"lr0", real(0.01)}, {"run", os_system()}})}};
      if (!no_stride) own.emplace_back("stride", floats({8}, {1}));
      if (names.size() > 3)
        own.emplace_back("names", names);
      else if (names_as_list)
        own.emplace_back("names", list({text("cat"), text("dog")}));
      else
        own.emplace_back("names", "}(" + integer(1) + text("dog") + integer(0) + text("cat") + "u");
      const auto net = module(model_module.c_str(), model_class.c_str(), {}, {}, {{"model", layers}}, own);
      return data_parallel
                 ? module("torch.nn.parallel.distributed", "DistributedDataParallel", {}, {}, {{"module", net}}, {})
                 : net;
    };
    if (only_object) {
      out.pickle = pickled(network(1));
      return out;
    }
    Pairs root = {{"epoch", integer(7)},      {"best_fitness", real(0.5)},
                  {"model", network(1)},      {"ema", with_ema ? network(2) : none()},
                  {"optimizer", os_system()}, {"date", text("2024-01-01")}};
    root.insert(root.end(), top.begin(), top.end());
    out.pickle = pickled(dict(root));
    return out;
  }
};

const Folder folder;

YoloCheckpoint load(const Tiny& tiny, CheckpointPart part = CheckpointPart::ema_or_model) {
  return load_yolo_checkpoint(folder.write("tiny.pt", tiny.build().file()), part);
}
std::string refusal(const Tiny& tiny) {
  return error_of([&] { load(tiny); });
}

}  // namespace

TEST_CASE("a small detector: state, facts and graph") {
  const auto c = load({});
  std::vector<std::string> order;
  for (const auto& [name, t] : c.state) order.push_back(name);
  CHECK(order == std::vector<std::string>{"model.0.conv.weight", "model.0.bn.weight", "model.0.bn.bias",
                                          "model.0.bn.running_mean", "model.1.anchors",
                                          "model.1.m.0.weight"});  // hidden is not persistent
  CHECK(c.names == std::vector<std::string>{"cat", "dog"});
  CHECK(c.strides == std::vector<float>{8});
  CHECK(c.epoch == 7);
  CHECK(c.best_fitness == 0.5);
  CHECK(c.date == "2024-01-01");
  CHECK(c.hyp == std::map<std::string, double>{{"lr0", 0.01}});  // what is not a number is left out
  CHECK(c.yaml_text ==
        "nc: 2\ndepth_multiple: 0.33\nwidth_multiple: 0.25\nanchors:\n  - [10, 16, 24, 32]\n"
        "backbone:\n  - [-1, 1, Conv, [2, 1, null, True, None]]\nhead:\n  - [[0], 1, Detect, [nc, anchors]]\nnote: tiny\n");
}

TEST_CASE("which part is read") {
  const auto first = [](const YoloCheckpoint& c) { return c.state.at("model.0.conv.weight").to_f32()[0]; };
  CHECK(first(load({.with_ema = true})) == 2);
  CHECK(load({.with_ema = true}).source == "ema");
  CHECK(first(load({.with_ema = true}, CheckpointPart::model)) == 1);
  CHECK(load({.with_ema = true}, CheckpointPart::model).source == "model");
  CHECK(first(load({.only_object = true})) == 1);
  CHECK(first(load({.data_parallel = true})) == 1);
}

TEST_CASE("variants of other versions") {
  CHECK(load({.names_as_list = true}).names == std::vector<std::string>{"cat", "dog"});
  CHECK(load({.no_stride = true}).strides == std::vector<float>{32});
  CHECK(load({.eps = 1e-4}).bn_eps == 1e-4);
  const auto act = [](const char* name, const Pairs& own) { return object("torch.nn.modules.activation", name, own); };
  CHECK(has(load({.act = act("LeakyReLU", {{"negative_slope", real(0.1)}})}).yaml_text, "activation: nn.LeakyReLU(0.1)\n"));
  CHECK(has(load({.act = act("Hardswish", {})}).yaml_text, "activation: nn.Hardswish()\n"));
  CHECK(!has(load({.act = act("SiLU", {})}).yaml_text, "activation"));
  CHECK(load({.act = act("ReLU", {})}).activations.at("model.0") == "nn.ReLU()");
  const auto csp = [&](const std::string& own) {
    return object("models.common", "BottleneckCSP",
                  {{"_parameters", ordered({})},
                   {"_buffers", ordered({})},
                   {"_modules", ordered({{"act", own}})},
                   {"f", integer(-1)}});
  };
  const std::string old = load({.conv_module = csp(act("LeakyReLU", {{"negative_slope", real(0.1)}}))}).yaml_text;
  CHECK(has(old, "\ncsp_activation: nn.LeakyReLU(0.1)\n"));  // up to v6.0, beside any activation of the convolutions
  CHECK(!has(old, "\nactivation:"));
  CHECK(!has(load({.conv_module = csp(act("SiLU", {}))}).yaml_text, "activation"));
  CHECK(YAML::Load(load({.extra_yaml_value = text("a: \"b\"\n# c")}).yaml_text)["note"].as<std::string>() ==
        "a: \"b\"\n# c");
  CHECK(YAML::Load(load({.extra_yaml_value = text("null")}).yaml_text)["note"].as<std::string>() == "null");
  const auto odd = load({.nan = true});
  REQUIRE(odd.warnings.size() == 1);
  CHECK(odd.warnings[0] == "model.0.conv.weight holds NaN or Inf");
}

TEST_CASE("what is refused, in one line with the file") {
  const auto names = [](int count) {
    std::string out = "](";
    for (int i = 0; i < count; ++i) out += text("x");
    return out + "e";
  };
  const std::vector<std::pair<std::string, std::string>> cases = {
      {refusal({.top = {{"model", os_system()}}}), "refused global posix.system instead of a YOLOv5 model at model"},
      {refusal({.conv_module = os_system()}), "refused global posix.system instead of a module at model.0"},
      {refusal({.extra_yaml_value = os_system()}), "refused global posix.system at model.yaml: note"},
      {refusal({.top = {{"model", none()}}}), "neither 'model' nor 'ema'"},
      {refusal({.top = {{"model", dict({})}}}), "a plain state dict instead of a YOLOv5 model at model"},
      {refusal({.top = {{"model", integer(3)}}}), "a int instead of a YOLOv5 model at model"},
      {refusal({.model_class = "ClassificationModel"}), "a classification model, not a detector"},
      {refusal({.head_class = "Classify"}), "a classification model, not a detector"},
      {refusal({.head_class = "Segment"}), "a segmentation model, not a detector"},
      {refusal({.head_class = "Conv"}), "models.yolo.Conv instead of Detect at model.1"},
      {refusal({.model_module = "ultralytics.nn.tasks"}), "written by the ultralytics package"},
      {refusal({.model_module = "torchvision.models.resnet"}),
       "torchvision.models.resnet.DetectionModel is not a YOLOv5 model"},
      {refusal({.conv_in = 4}), "model.0.conv: weight is 2x3x1x1, its module says 2x4x1x1"},
      {refusal({.rows = 15}), "model.1: output 0 is 15x2x1x1, needs 14 rows"},
      {refusal({.anchor = -1}), "model.1: an anchor of -1"},
      {refusal({.head_from = 1}), "layer input 1 that is not computed yet at model.1"},
      {refusal({.names = names(3)}), "3 names for 2 classes"},
  };
  for (const auto& [message, part] : cases) {
    CAPTURE(part);
    CAPTURE(message);
    CHECK(has(message, part));
    CHECK(message.starts_with((folder / "tiny.pt").string() + ": "));
    CHECK(!has(message, "\n"));
  }
  CHECK(!std::filesystem::exists("/tmp/frost_was_hacked"));
}

TEST_CASE("files that are no checkpoint") {
  const auto tell = [](const std::string& name, const std::string& bytes) {
    const auto path = folder.write(name, bytes);
    return error_of([&] { load_yolo_checkpoint(path); });
  };
  CHECK(has(error_of([] { load_yolo_checkpoint(folder / "none.pt"); }), "none.pt: No such file"));
  CHECK(has(error_of([] { load_yolo_checkpoint(folder.path()); }), "is a folder"));
  CHECK(has(tell("a.pt", ""), "a.pt: the file is empty"));
  CHECK(has(tell("a.safetensors", ""), "a.safetensors: the file is empty"));
  CHECK(has(tell("a.pt", "hello"), "not a checkpoint"));
  CHECK(has(tell("a.pt", "<!DOCTYPE html><html>"), "web page"));
  CHECK(has(tell("a.pt", pickled(os_system())), "a bare pickle"));
  CHECK(has(tell("a.pt", torch_zip(pickled(os_system()), {})), "not a checkpoint: refused global posix.system"));
  CHECK(has(tell("a.pt", torch_zip(pickled(integer(4)), {})), "not a checkpoint: a int"));
  const auto weights = tensor(storage("FloatStorage", "0", 1), 0, {1}, {1});
  CHECK(has(tell("resnet.pth", torch_zip(pickled(ordered({{"conv1.weight", weights}})), {{"0", raw<float>({1})}})),
            "a plain state dict of 1 tensors (conv1.weight, ...), not a YOLOv5 checkpoint"));
}

TEST_CASE("a small checkpoint cut anywhere is refused, never a crash") {
  const std::string whole = Tiny{}.build().file();
  for (std::size_t length = 0; length < whole.size(); ++length) {
    CAPTURE(length);
    const auto path = folder.write("cut.pt", whole.substr(0, length));
    CHECK(has(error_of([&] { load_yolo_checkpoint(path); }), "cut.pt: "));
  }
}

TEST_CASE("frost's own file keeps everything") {
  YoloCheckpoint c = load({.eps = 1e-4, .with_ema = true}, CheckpointPart::model);
  c.metadata["who"] = "frost \"quoted\" \xC3\xA9";
  StateDict extra;
  for (const auto& [name, t] : load({.with_ema = true}).state) extra.add("ema." + name, t);
  extra.add("optimizer.momentum.model.0.conv.weight", HostTensor::from_f32({1}, std::vector<float>{3}));
  const auto path = folder / "own.safetensors";
  save_yolo_checkpoint(path, c, extra);
  const auto raw_part = load_yolo_checkpoint(path, CheckpointPart::model);
  CHECK(std::equal(raw_part.state.begin(), raw_part.state.end(), c.state.begin(), c.state.end()));
  CHECK(raw_part.yaml_text == c.yaml_text);
  CHECK(raw_part.names == c.names);
  CHECK(raw_part.strides == c.strides);
  CHECK(raw_part.hyp == c.hyp);
  CHECK(raw_part.nc == 2);
  CHECK(raw_part.epoch == 7);
  CHECK(raw_part.best_fitness == 0.5);
  CHECK(raw_part.bn_eps == 1e-4);
  CHECK(raw_part.metadata.at("who") == c.metadata["who"]);
  CHECK(raw_part.source == "model");
  const auto smooth = load_yolo_checkpoint(path);
  CHECK(smooth.source == "ema");
  CHECK(smooth.state.size() == c.state.size());
  CHECK(smooth.state.at("model.0.conv.weight").to_f32()[0] == 2);
  write_safetensors(folder / "foreign.safetensors", c.state);
  CHECK(has(error_of([] { load_yolo_checkpoint(folder / "foreign.safetensors"); }), "no model.yaml in its metadata"));
  auto broken = metadata_of(c);
  broken["names"] = "[1, 2";
  write_safetensors(folder / "broken.safetensors", c.state, broken);
  CHECK(has(error_of([] { load_yolo_checkpoint(folder / "broken.safetensors"); }), "metadata names cannot be read"));
}
