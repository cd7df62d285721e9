#include "models/zoo/yolo_checkpoint.h"

#include <doctest/doctest.h>
#include <yaml-cpp/yaml.h>

#include <chrono>
#include <cmath>
#include <iostream>

#include "engine/checkpoint/torch_file.h"
#include "kernels/trace/trace.h"
#include "models/graph/detection_model.h"
#include "models/yolo/model_io.h"
#include "tests/engine/torch_builder.h"
#include "tests/golden/golden.h"
#include "tests/models/pickled_model.h"

using namespace frost;
using namespace frost::build;
using nlohmann::json;

TEST_CASE("the released yolov5n.pt holds what golden/checkpoints.json says") {
  if (!golden::have("weights/yolov5n.pt")) return;
  const auto path = golden::shared_dir() / "weights" / "yolov5n.pt";
  std::ifstream in(golden::dir() / "checkpoints.json");
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
  double eps = 1e-3, momentum = 0.03, anchor = 1.25;
  int conv_in = 3, rows = 14, head_from = 0, head_in = 2, kernel = 1;
  std::string row_module = "Conv",
              row_args = list({integer(2), integer(1), integer(1), none(), integer(1), integer(1), boolean(true)});
  Pairs conv_attributes{}, layer_children{};  // added to those of layer 0
  bool names_as_list = false, with_ema = false, only_object = false, data_parallel = false, no_stride = false, nan = false;
  Pairs top{};  // replaces or adds top-level keys

  static Pairs with(Pairs all, const Pairs& more) {
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }

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
      std::vector<float> weight(static_cast<std::size_t>(2 * 3 * kernel * kernel), first);
      if (nan) weight[1] = NAN;
      const auto conv = module("torch.nn.modules.conv", "Conv2d",
                               {{"weight", parameter(floats(weight, {2, 3, kernel, kernel}))}, {"bias", none()}}, {}, {},
                               with({{"in_channels", integer(conv_in)},
                                     {"out_channels", integer(2)},
                                     {"kernel_size", integers({kernel, kernel})},
                                     {"groups", integer(1)}},
                                    conv_attributes));
      const auto bn = module("torch.nn.modules.batchnorm", "BatchNorm2d",
                             {{"weight", floats({1, 2}, {2})}, {"bias", floats({3, 4}, {2})}},
                             {{"running_mean", floats({5, 6}, {2})}, {"hidden", floats({0, 0}, {2})}}, {},
                             {{"num_features", integer(2)}, {"eps", real(eps)}, {"momentum", real(momentum)}});
      const auto layer = conv_module.empty()
                             ? module("models.common", "Conv", {}, {},
                                      with({{"conv", conv}, {"bn", bn}, {"act", act}}, layer_children), {{"f", integer(-1)}})
                             : conv_module;
      const auto out_conv = module(
          "torch.nn.modules.conv", "Conv2d",
          {{"weight", floats(std::vector<float>(static_cast<std::size_t>(rows * head_in), .5f), {rows, head_in, 1, 1})}}, {},
          {},
          {{"in_channels", integer(head_in)},
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
           {"backbone", list({list({integer(-1), integer(1), text(row_module), row_args})})},
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
/// The network's YAML with what the modules say beyond it.
std::string yaml_of(const Tiny& tiny) {
  const YoloCheckpoint c = load(tiny);
  Device device(make_cpu_backend());
  const std::string file = (folder / "tiny.pt").string();
  return yolo::fitted_model(device, parse_model_yaml(c.yaml_text, file), 0, c, file)->spec().text;
}
std::string refusal(const Tiny& tiny) {
  return error_of([&] { yaml_of(tiny); });
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
  CHECK(
      c.yaml_text ==
      "nc: 2\ndepth_multiple: 0.33\nwidth_multiple: 0.25\nanchors:\n  - [10, 16, 24, 32]\n"
      "backbone:\n  - [-1, 1, Conv, [2, 1, 1, null, 1, 1, True]]\nhead:\n  - [[0], 1, Detect, [nc, anchors]]\nnote: tiny\n");
}

TEST_CASE("which part is read") {
  const auto first = [](const YoloCheckpoint& c) { return c.state.at("model.0.conv.weight").to_f32()[0]; };
  CHECK(first(load({.with_ema = true})) == 2);
  CHECK(load({.with_ema = true}).source == "ema");
  CHECK(first(load({.with_ema = true}, CheckpointPart::model)) == 1);
  CHECK(load({.with_ema = true}, CheckpointPart::model).source == "model");
  CHECK(first(load({.only_object = true})) == 1);
  CHECK(first(load({.data_parallel = true})) == 1);
  const Tiny averaged{.with_ema = true, .top = {{"model", none()}}};  // only the average was kept
  for (const CheckpointPart part : {CheckpointPart::ema_or_model, CheckpointPart::model}) {
    CHECK(first(load(averaged, part)) == 2);
    CHECK(load(averaged, part).source == "ema");
  }
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
    const auto part = [](const char* from, const char* type, const Pairs& children) {
      return object(from, type, {{"_modules", ordered(children)}, {"num_features", integer(8)}, {"f", integer(-1)}});
    };
    const std::string plain = part("torch.nn.modules.conv", "Conv2d", {}),
                      norm = part("torch.nn.modules.batchnorm", "BatchNorm2d", {}),
                      conv = part("models.common", "Conv", {{"conv", plain}, {"bn", norm}}),
                      chain = part("torch.nn.modules.container", "Sequential",
                                   {{"0", part("models.common", "Bottleneck", {{"cv1", conv}, {"cv2", conv}})}});
    return Tiny{
        .conv_module =
            part("models.common", "BottleneckCSP",
                 {{"cv1", conv}, {"cv2", plain}, {"cv3", plain}, {"cv4", conv}, {"bn", norm}, {"act", own}, {"m", chain}}),
        .head_in = 8,
        .row_module = "BottleneckCSP",
        .row_args = list({integer(2)})};
  };
  const std::string old = load(csp(act("LeakyReLU", {{"negative_slope", real(0.1)}}))).yaml_text;
  CHECK(has(old, "\ncsp_activation: nn.LeakyReLU(0.1)\n"));  // up to v6.0, beside any activation of the convolutions
  CHECK(!has(old, "\nactivation:"));
  CHECK(!has(yaml_of(csp(act("LeakyReLU", {{"negative_slope", real(0.1)}}))), "modules:"));
  CHECK(!has(load(csp(act("SiLU", {}))).yaml_text, "activation"));
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
      {refusal({.rows = 16}), "model.1: the head has 8 outputs for each anchor instead of 5 + nc = 7"},
      {refusal({.rows = 30}), "model.1: the head has 15 outputs for each anchor instead of 5 + nc = 7"},
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

namespace {

/// The heads of the network that a YAML's text builds, on an image of odd sides.
std::vector<float> heads_of(const std::string& yaml) {
  Device device(make_cpu_backend());
  DetectionModel model(device, parse_model_yaml(yaml, "test.yaml"), 1);
  const Shape shape{1, 19, 23, 3};
  std::vector<float> pixels;
  for (std::int64_t i = 0; i < shape.elements(); ++i) pixels.push_back(static_cast<float>(std::sin(static_cast<double>(i))));
  Tensor image(device, shape);
  image.assign(pixels);
  Context context{.device = device};
  std::vector<float> out;
  for (const Var& map : model.heads(context, {image, -1, nullptr})) {
    const auto values = map.value.to_vector();
    out.push_back(static_cast<float>(map.shape().h));
    out.insert(out.end(), values.begin(), values.end());
  }
  return out;
}

std::string same(const std::string& item) { return tuple({item, item}); }

/// A layer without tensors in the place of Conv, and the row that its YAML has.
Tiny plain(const char* package, const char* type, const Pairs& said, const char* row_module, const std::string& row) {
  Pairs attributes = {
      {"_parameters", ordered({})}, {"_buffers", ordered({})}, {"_modules", ordered({})}, {"f", integer(-1)}};
  attributes.insert(attributes.end(), said.begin(), said.end());
  return {.conv_module = object(package, type, attributes), .head_in = 3, .row_module = row_module, .row_args = row};
}

}  // namespace

TEST_CASE("modules that say something else than their YAML are honoured, as if its row said it") {
  const auto conv = [](const Pairs& said, const std::string& row) {
    return Tiny{.kernel = 3, .row_args = row, .conv_attributes = said};
  };
  const auto i = [](int value) { return integer(value); };
  const std::string plain_row = list({i(2), i(3), i(1)});
  const auto pool = [&](const Pairs& said, const std::string& row) {
    return plain("torch.nn.modules.pooling", "MaxPool2d", said, "nn.MaxPool2d", row);
  };
  const auto up = [&](const Pairs& said, const std::string& row) {
    return plain("torch.nn.modules.upsampling", "Upsample", said, "nn.Upsample", row);
  };
  const auto act = [](const char* kind, const Pairs& said, const char* row_module, const std::string& row) {
    return plain("torch.nn.modules.activation", kind, said, row_module, row);
  };
  const std::string doubled = list({none(), i(2), text("nearest")});
  struct Case {
    const char* what;
    Tiny said;        // by the modules
    Tiny row, other;  // by the YAML's row: the same, and without the modules' word
  };
  const Case cases[] = {
      {"stride", conv({{"stride", same(i(2))}}, plain_row), conv({}, list({i(2), i(3), i(2)})), conv({}, plain_row)},
      {"padding", conv({{"padding", same(i(0))}}, plain_row), conv({}, list({i(2), i(3), i(1), i(0)})), conv({}, plain_row)},
      {"padding in a word", conv({{"padding", text("valid")}}, plain_row), conv({}, list({i(2), i(3), i(1), i(0)})),
       conv({}, plain_row)},
      {"dilation", conv({{"dilation", same(i(2))}, {"padding", same(i(2))}}, plain_row),
       conv({}, list({i(2), i(3), i(1), i(2), i(1), i(2)})), conv({}, plain_row)},
      {"dilation of rows", conv({{"dilation", tuple({i(2), i(1)})}, {"padding", tuple({i(2), i(1)})}}, plain_row),
       conv({}, list({i(2), i(3), i(1), list({i(2), i(1)}), i(1), list({i(2), i(1)})})), conv({}, plain_row)},
      {"pool", pool({{"kernel_size", i(3)}, {"stride", i(1)}, {"padding", i(1)}}, list({i(5), i(1), i(2)})),
       pool({}, list({i(3), i(1), i(1)})), pool({}, list({i(5), i(1), i(2)}))},
      {"pool's stride", pool({{"stride", same(i(2))}}, list({i(5), i(1), i(2)})), pool({}, list({i(5), i(2), i(2)})),
       pool({}, list({i(5), i(1), i(2)}))},
      {"ceil_mode", pool({{"ceil_mode", boolean(true)}}, list({i(2), i(2)})),
       pool({}, list({i(2), i(2), i(0), i(1), boolean(false), boolean(true)})), pool({}, list({i(2), i(2)}))},
      {"mode", up({{"size", none()}, {"scale_factor", real(2)}, {"mode", text("bilinear")}}, doubled),
       up({}, list({none(), i(2), text("bilinear")})), up({}, doubled)},
      {"corners", up({{"mode", text("bilinear")}, {"align_corners", boolean(true)}}, doubled),
       up({}, list({none(), i(2), text("bilinear"), boolean(true)})), up({}, doubled)},
      {"factor", up({{"scale_factor", real(3)}}, doubled), up({}, list({none(), i(3), text("nearest")})), up({}, doubled)},
      {"size", up({{"size", tuple({i(30), i(31)})}, {"scale_factor", none()}}, doubled),
       up({}, list({list({i(30), i(31)}), none(), text("nearest")})), up({}, doubled)},
      {"an activation alone", act("Hardswish", {}, "nn.SiLU", list({})), act("Hardswish", {}, "nn.Hardswish", list({})),
       act("SiLU", {}, "nn.SiLU", list({}))},
      {"its slope", act("LeakyReLU", {{"negative_slope", real(0.3)}}, "nn.LeakyReLU", list({real(0.1)})),
       act("LeakyReLU", {}, "nn.LeakyReLU", list({real(0.3)})), act("LeakyReLU", {}, "nn.LeakyReLU", list({real(0.1)}))},
  };
  for (const Case& c : cases) {
    CAPTURE(c.what);
    // the rows' modules say nothing, but for a slope, whose absence means PyTorch's default
    const auto text_of = [](const Tiny& tiny) {
      YAML::Node yaml = YAML::Load(yaml_of(tiny));
      yaml.remove("modules");
      return YAML::Dump(yaml);
    };
    YoloCheckpoint said = load(c.said);
    said.yaml_text = yaml_of(c.said);
    CHECK(YAML::Load(said.yaml_text)["modules"].size() == 1);
    const auto is = heads_of(said.yaml_text);
    CHECK(is == heads_of(text_of(c.row)));
    CHECK(is != heads_of(text_of(c.other)));
    // again from frost's own file
    save_yolo_checkpoint(folder / "changed.safetensors", said);
    CHECK(is == heads_of(parse_model_yaml(load_yolo_checkpoint(folder / "changed.safetensors").yaml_text, "again").text));
  }
}

TEST_CASE("one layer's activation and norm") {
  const auto act = [](const char* name, const Pairs& own) { return object("torch.nn.modules.activation", name, own); };
  const Tiny one{.act = act("LeakyReLU", {{"negative_slope", real(0.2)}}),
                 .kernel = 3,
                 .row_args = list({integer(2), integer(3), integer(1), none(), integer(1), integer(1), text("nn.ReLU()")})};
  const std::string yaml = yaml_of(one);
  Device device(make_cpu_backend());
  DetectionModel model(device, parse_model_yaml(yaml, "test.yaml"));
  bool seen = false;
  model.walk([&](const std::string& path, Module& module) {
    if (auto* block = dynamic_cast<ConvNormAct*>(&module)) {
      seen = true;
      CHECK(path == "model.0");
      CHECK(block->activation == Activation{ActivationKind::leaky_relu, 0.2f});
    }
  });
  CHECK(seen);
  DetectionModel normed(device, parse_model_yaml(yaml_of({.eps = 0.25, .momentum = 0.5}), "test.yaml"));
  normed.walk([&](const std::string&, Module& module) {
    if (auto* bn = dynamic_cast<BatchNorm2d*>(&module)) {
      CHECK(bn->eps == 0.25f);
      CHECK(bn->momentum == 0.5f);
    }
  });
}

TEST_CASE("modules that frost cannot follow are refused by name") {
  const auto pool = [](const Pairs& said) {
    return refusal(
        plain("torch.nn.modules.pooling", "MaxPool2d", said, "nn.MaxPool2d", list({integer(3), integer(1), integer(1)})));
  };
  const auto up = [](const Pairs& said) {
    return refusal(
        plain("torch.nn.modules.upsampling", "Upsample", said, "nn.Upsample", list({none(), integer(2), text("nearest")})));
  };
  const std::string three = list({integer(2), integer(3), integer(1)});
  const auto conv = [&](const Pairs& said) { return refusal({.kernel = 3, .row_args = three, .conv_attributes = said}); };
  const auto extra = [](const char* package, const char* type, const Pairs& more) {
    return Pairs{{"att", object(package, type, more)}};
  };
  const Pairs holds = {{"_parameters", ordered({{"w", tensor(storage("FloatStorage", "0", 6), 0, {1}, {1})}})}};
  const std::pair<std::string, std::string> cases[] = {
      {conv({{"padding_mode", text("reflect")}}), "model.0.conv: padding_mode reflect, the model's YAML gives zeros"},
      {conv({{"padding_mode", text("circular\n")}}), "model.0.conv: padding_mode circular?, the model's YAML gives zeros"},
      {conv({{"transposed", boolean(true)}}), "model.0.conv: transposed True, the model's YAML gives False"},
      {conv({{"stride", same(integer(0))}}), "model.0.conv: stride is 0, expected whole numbers of 1 to 4096"},
      {conv({{"stride", tuple({})}}), "model.0.conv: stride is a tuple"},
      {refusal({.kernel = 1, .row_args = three}), "model.0.conv: kernel_size 1, the model's YAML gives 3"},
      {refusal({.eps = -1}), "model.0.bn: eps is -1, expected a number from 0 to 1"},
      {refusal({.act = object("torch.nn.modules.activation", "GELU", {})}), "activation 'nn.GELU()' is not one of"},
      {pool({{"dilation", integer(2)}}), "model.0: dilation 2, the model's YAML gives 1"},
      {pool({{"return_indices", boolean(true)}}), "model.0: return_indices True, the model's YAML gives False"},
      {pool({{"kernel_size", tuple({integer(3), integer(5)})}}), "model.0: kernel_size is [3, 5], but pools are square"},
      {up({{"mode", text("bicubic")}}), "model.0: mode 'bicubic' is not nearest or bilinear"},
      {up({{"scale_factor", real(1.5)}}), "model.0: scale_factor is 1.5, expected whole numbers"},
      {refusal(
           plain("torch.nn.modules.pooling", "AvgPool2d", {}, "nn.MaxPool2d", list({integer(3), integer(1), integer(1)}))),
       "model.0: a torch.nn.modules.pooling.AvgPool2d, the model's YAML asks for MaxPool2d"},
      {refusal({.row_module = "Focus", .row_args = list({integer(2)})}),
       "model.0: a models.common.Conv, the model's YAML asks for Focus"},
      {refusal({.layer_children = extra("torch.nn.modules.linear", "Linear", {})}),
       "model.0.att: a torch.nn.modules.linear.Linear that the model's YAML does not ask for"},
      {refusal({.layer_children = extra("torch.nn.modules.linear", "Identity", holds)}),
       "model.0.att: a torch.nn.modules.linear.Identity that the model's YAML does not ask for"},
      {refusal({.layer_children = extra("models.common", "CBAM", {})}), "model.0.att: unknown module models.common.CBAM"},
      {refusal(plain("models.common", "StemBlock", {}, "StemBlock", list({}))),
       "model.0: unknown module models.common.StemBlock"},
      {refusal(plain("models.common", "C3TR", {}, "C3TR", list({}))),
       "C3TR: a module of YOLOv5 that frost does not support"},
      {refusal(plain("models.common", "Conv", {}, "Conv", list({integer(8), integer(1)}))),
       "model.0.bn: the checkpoint's modules lack it"},
  };
  for (const auto& [message, part] : cases) {
    CAPTURE(message);
    CAPTURE(part);
    CHECK(has(message, part));
    CHECK(message.starts_with((folder / "tiny.pt").string() + ": "));
    CHECK(!has(message, "\n"));
  }
  // what changes nothing outside training
  CHECK(!has(yaml_of({.layer_children = extra("torch.nn.modules.dropout", "Dropout", {})}), "modules"));
  CHECK(!has(yaml_of({.layer_children = extra("torch.nn.modules.linear", "Identity", {})}), "modules"));
}

namespace {

/// A detector whose modules are its YAML's, until a test changes one: a repeated bottleneck and an enlargement are in it.
struct Small {
  const std::string up_arguments;
  DetectionModel model;
  PickledModel pickle;

  explicit Small(Device& device, const std::string& mode = "bilinear, True")
      : up_arguments(mode),
        model(device, parse_model_yaml("nc: 2\ndepth_multiple: 1\nwidth_multiple: 1\nanchors: [[10, 16, 24, 32]]\n"
                                       "backbone:\n  - [-1, 1, Conv, [8, 3, 2]]\n  - [-1, 2, Bottleneck, [8]]\n"
                                       "  - [-1, 1, nn.Upsample, [None, 2, " +
                                           mode +
                                           "]]\n"
                                           "head:\n  - [[-1], 1, Detect, [nc, anchors]]\n",
                                       "small.yaml")),
        pickle(model, "models.common") {
    const auto row = [](const std::string& from, int number, const char* module, const std::string& arguments) {
      return list({from, integer(number), text(module), arguments});
    };
    const bool bilinear = mode.starts_with("bilinear");
    PickledNode& net = pickle[""];
    net.package = "models.yolo", net.type = "DetectionModel";
    net.say("yaml", dict({{"nc", integer(2)},
                          {"depth_multiple", real(1)},
                          {"width_multiple", real(1)},
                          {"anchors", list({list({integer(10), integer(16), integer(24), integer(32)})})},
                          {"backbone", list({row(integer(-1), 1, "Conv", list({integer(8), integer(3), integer(2)})),
                                             row(integer(-1), 2, "Bottleneck", list({integer(8)})),
                                             row(integer(-1), 1, "nn.Upsample",
                                                 list({none(), integer(2), text(bilinear ? "bilinear" : "nearest"),
                                                       bilinear ? boolean(true) : none()}))})},
                          {"head", list({row(list({integer(-1)}), 1, "Detect", list({text("nc"), text("anchors")}))})}}));
    PickledNode& head = pickle["model.3"];
    for (const auto& [name, value] : {std::pair{"nc", 2}, {"na", 2}, {"nl", 1}}) head.say(name, integer(value));
    head.buffers = {{"anchors", pickle.own_tensor({10, 16, 24, 32}, {1, 2, 2})}};
  }
  std::string read() const {
    const auto path = folder.write("small.pt", pickle.file());
    return error_of([&] {
      YoloCheckpoint c = load_yolo_checkpoint(path);
      Device device(make_cpu_backend());
      const auto fitted = yolo::fitted_model(device, parse_model_yaml(c.yaml_text, "small.yaml"), 0, c, path.string());
      std::string settings;
      for (const auto& [name, attributes] : fitted->spec().modules)
        for (const auto& [attribute, value] : attributes) settings += name + "." + attribute + "=" + value + " ";
      if (!settings.empty()) fail(settings);
    });
  }
};

}  // namespace

TEST_CASE("what modules may say in other words, and what they may not") {
  const std::unique_ptr<Backend> cpu = make_cpu_backend();
  Device device(make_meta_backend(*cpu, {}));
  const auto said = [&](const std::function<void(PickledModel&)>& change, const std::string& mode = "bilinear, True") {
    Small small(device, mode);
    change(small.pickle);
    return small.read();
  };
  using M = PickledModel&;
  CHECK(said([](M) {}) == "");
  CHECK(said([](M) {}, "nearest") == "");
  CHECK(said([](M m) { m["model.1.0"].say("add", integer(1)); }) == "");
  CHECK(said([](M m) { m["model.1.0"].say("add", integer(0)); }) == "model.1.0.add=False ");
  CHECK(said([](M m) { m["model.1.1"].say("add", integer(2)); }).ends_with("expected True or False"));
  CHECK(said([](M m) { m["model.2"].say("align_corners", none()); }) == "model.2.align_corners=False ");
  CHECK(said([](M m) { m["model.2"].say("align_corners", boolean(false)); }) == "model.2.align_corners=False ");
  CHECK(said([](M m) { m["model.2"].say("align_corners", boolean(false)); }, "nearest") == "");
  CHECK(said([](M m) {
          m["model.2"].say("scale_factor", none());
        }).ends_with("model.2: expected a size or a scale_factor, got neither"));
  CHECK(said([](M m) {
          m["model.2"].say("size", integer(9));
        }).ends_with("model.2: expected a size or a scale_factor, got both"));
  CHECK(said([](M m) {
          m["model.0.bn"].say("track_running_stats", boolean(false));
        }).ends_with("model.0.bn: track_running_stats False, the model's YAML gives True"));
  CHECK(said([](M m) {
          std::swap(m["model.1"].children[0], m["model.1"].children[1]);
        }).ends_with("model.1.0: runs after model.1.1, but the model's YAML asks for it before that"));
  CHECK(said([](M m) {
          std::swap(m["model"].children[1], m["model"].children[2]);
        }).ends_with("model.1: runs after model.2, but the model's YAML asks for it before that"));
  // classes by their names alone could be anybody's
  for (const std::string package : {"mylib", "yolov9.models.common", "torchvision_fork.ops", "torch.nn.quantized"}) {
    CHECK(said([&](M m) { m["model.0"].package = package; }).ends_with("model.0: unknown module " + package + ".Conv"));
    CHECK(said([&](M m) {
            m["model.0.act"].package = package;
          }).ends_with("model.0.act: unknown module " + package + ".SiLU"));
  }
  for (const std::string package : {"models.experimental", "__main__"})
    CHECK(said([&](M m) { m["model.0"].package = package; }) == "");
  CHECK(said([](M m) { m["model.0.act"].package = "utils.activations"; }) == "");
}

TEST_CASE("a head that counts with other strides than its graph has is refused") {
  const std::unique_ptr<Backend> cpu = make_cpu_backend();
  Device device(make_meta_backend(*cpu, {}));
  for (const float stride : {1.0f, 2.0f, 16.0f}) {
    Small small(device);
    small.pickle["model.3"].say("stride", small.pickle.own_tensor({stride}, {1}));
    const std::string message = small.read();
    CAPTURE(message);
    if (stride == 1)
      CHECK(message == "");
    else
      CHECK(message.ends_with(stride == 2 ? "model.3: strides 2, its graph gives 1"
                                          : "model.3: strides 16, its graph gives 1"));
  }
  Small small(device);  // a stride that the modules change counts too
  small.pickle["model.0.conv"].say("stride", integers({1, 1}));
  small.pickle["model.3"].say("stride", small.pickle.own_tensor({1}, {1}));
  CHECK(small.read().ends_with("model.3: strides 1, its graph gives 0.5"));
}

TEST_CASE("lists that share their items do not become a text without end") {
  const auto start = std::chrono::steady_clock::now();
  std::string nested =
      list({integer(1), integer(2), integer(3), integer(4), integer(5), integer(6), integer(7), integer(8)});
  for (int i = 0; i < 12; ++i) {
    const std::string key = "r" + little(static_cast<std::uint32_t>(1000 + i)), again = "j" + key.substr(1);
    nested = list({nested + key, again, again, again, again, again, again, again});
  }
  const std::string lists = refusal({.extra_yaml_value = nested});
  CAPTURE(lists);
  CHECK(has(lists, "tiny.pt: more than 1048576 bytes of text at model.yaml: note"));
  std::string many = "](" + text(std::string(1 << 16, 'x')) + "r" + little(std::uint32_t{2000});
  for (int i = 0; i < 100; ++i) many += "j" + little(std::uint32_t{2000});
  CHECK(has(refusal({.extra_yaml_value = many + "e"}), "more than 1048576 bytes of text at model.yaml: note"));
  CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(20));
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
