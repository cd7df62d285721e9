#include <doctest/doctest.h>

#include <map>

#include "models/yolo/training/step.h"
#include "tests/device.h"
#include "tests/models/model_fixture.h"

// Whole networks against PyTorch in float64 (golden/README.md B and C). Tolerance 1e-4 of each tensor's scale: some 60
// convolutions in float32; PyTorch's own float32 run lies 1e-5 from the reference on the same quantities.
using namespace frost;
using namespace frost::golden;
using frost::golden::File;
using frost::testing::TestDevice;

namespace {
std::vector<std::string> bn_buffer_names(const File& g) { return g.fact_json("bn_names").get<std::vector<std::string>>(); }

/// Row i of a table of `width` columns.
std::vector<float> row(const std::vector<float>& table, std::size_t i, std::size_t width) {
  const auto begin = table.begin() + static_cast<std::ptrdiff_t>(i * width);
  return {begin, begin + static_cast<std::ptrdiff_t>(width)};
}

/// On the CPU sums of many values come closer than 1e-4; other devices add in other orders.
double of_sums(double on_the_cpu) { return frost::testing::on_cpu() ? on_the_cpu : 1e-4; }

/// The decoded rows (of 85 values) that are on file.
std::vector<float> decoded(const File& g, Device& device, const DetectionModel& model, const std::vector<Var>& maps) {
  const DecodedRows rows = device.backend().detect_decode(
      {.levels = model.detect().levels(maps), .classes = model.detect().classes, .conf_threshold = -1});
  std::vector<float> all(static_cast<std::size_t>(rows.counts[0]) * 85), some;
  device.backend().synchronize();
  device.backend().download(all.data(), rows.data(), all.size() * sizeof(float));
  const auto step = static_cast<std::size_t>(std::stoll(g.fact("row_step")));
  for (std::size_t i = 0; i * 85 < all.size(); i += step) {
    const std::vector<float> one = row(all, i, 85);
    some.insert(some.end(), one.begin(), one.end());
  }
  return some;
}

/// By how much, of its scale, each layer's output and each head moves in training mode when every pixel moves by an ulp or
/// so.
struct EffectOfRounding {
  std::vector<double> layers, heads;
};
EffectOfRounding effect_of_rounding(const File& g, const frost::Tensor& image, const std::string& name) {
  std::vector<float> moved = image.to_vector();
  Rng rng(1);
  for (float& v : moved) v *= 1.0f + 1.2e-7f * static_cast<float>(rng.below(3) - 1);
  std::vector<std::vector<float>> layers[2], heads[2];
  for (const bool changed : {false, true}) {
    Device& device = image.device();
    DetectionModel model(device, parse_model_yaml(g.fact("yaml"), name));
    fill_model(model);
    Context context{.device = device, .training = true};
    const frost::Tensor input = changed ? frost::Tensor::from(device, image.shape(), moved) : image;
    const auto maps = model.heads(context, {input, -1, nullptr},
                                  [&](int, const Var& y) { layers[changed].push_back(first(nchw_values(y.value), 16)); });
    for (const Var& map : maps) heads[changed].push_back(first(head_order(map.value, model.detect().anchors_each), 16));
  }
  EffectOfRounding effect;
  for (std::size_t i = 0; i < layers[0].size(); ++i) effect.layers.push_back(relative_error(layers[1][i], layers[0][i]));
  for (std::size_t i = 0; i < heads[0].size(); ++i) effect.heads.push_back(relative_error(heads[1][i], heads[0][i]));
  return effect;
}

void check_network(const std::string& name) {
  CAPTURE(name);
  const File g = load("model_" + name);
  TestDevice device(TestDevice::fastest);
  DetectionModel model(device, parse_model_yaml(g.fact("yaml"), name));
  fill_model(model);

  std::int64_t parameters = 0, tensors = 0;
  model.visit({.parameter =
                   [&](Parameter& p) {
                     parameters += p.value.elements();
                     ++tensors;
                   },
               .buffer = [&](Buffer&) { ++tensors; },
               .counter = [&](Counter&) { ++tensors; }});
  CHECK(parameters == std::stoll(g.fact("parameters")));
  CHECK(tensors == std::stoll(g.fact("state_dict_tensors")));
  CHECK(model.detect().strides == g.fact_json("strides").get<std::vector<float>>());

  const frost::Tensor image = fill_image(device, "input", g.fact_json("input_shape").get<std::vector<std::int64_t>>());
  const int anchors = model.detect().anchors_each;
  {  // evaluation: fused blocks
    Context context{.device = device};
    const bool layers = g.has("eval_layers.first16");
    const std::vector<float> first16 = layers ? g.at("eval_layers.first16").f32() : std::vector<float>{};
    const auto maps = model.heads(context, {image, -1, nullptr}, [&](int index, const Var& y) {
      if (!layers) return;
      const auto i = static_cast<std::size_t>(index);
      INFO("eval layer ", index);
      CHECK(relative_error(first(nchw_values(y.value), 16), row(first16, i, 16)) < 1e-4);
    });
    const std::vector<float> heads16 = g.at("eval_heads.first16").f32();
    const auto sums = g.fact_json("eval_head_abs_sums").get<std::vector<double>>();
    for (std::size_t level = 0; level < maps.size(); ++level) {
      const std::vector<float> values = head_order(maps[level].value, anchors);
      CHECK(relative_error(first(values, 16), row(heads16, level, 16)) < 1e-4);
      double sum = 0;
      for (const float v : values) sum += std::abs(static_cast<double>(v));
      CHECK(sum == doctest::Approx(sums[level]).epsilon(of_sums(1e-5)));
    }
    const std::vector<float> expected = g.at("decoded_rows").f32(), mine = decoded(g, device, model, maps);
    // Pixels and probabilities stand side by side: relative to the row's largest value (boxes) and absolutely (scores).
    CHECK(relative_error(mine, expected) < of_sums(1e-5));
    double worst_score = 0;
    for (std::size_t i = 0; i < mine.size(); ++i)
      if (i % 85 >= 4) worst_score = std::max(worst_score, static_cast<double>(std::abs(mine[i] - expected[i])));
    CHECK(worst_score < of_sums(1e-5));
  }
  {  // training: batch statistics
    // Deep layers normalise over as few as 2 x 3 pixels, which amplifies rounding. How much is measured, not guessed: the
    // same network sees the image with its last bits changed. The limit is 1e-4, or a few times that change.
    const EffectOfRounding rounding = effect_of_rounding(g, image, name);
    const auto limit = [](double effect) { return std::max(1e-4, 4 * effect); };
    Tape tape;
    Context context{.device = device, .tape = &tape, .training = true};
    const bool layers = g.has("train_layers.first16");
    const std::vector<float> first16 = layers ? g.at("train_layers.first16").f32() : std::vector<float>{};
    const auto maps = model.heads(context, {image, -1, nullptr}, [&](int index, const Var& y) {
      if (!layers) return;
      const auto i = static_cast<std::size_t>(index);
      INFO("train layer ", index, ", changed last bits move it by ", rounding.layers[i]);
      CHECK(relative_error(first(nchw_values(y.value), 16), row(first16, i, 16)) < limit(rounding.layers[i]));
    });
    const std::vector<float> heads16 = g.at("train_heads.first16").f32();
    for (std::size_t level = 0; level < maps.size(); ++level) {
      INFO("level ", level, ", changed last bits move it by ", rounding.heads[level]);
      CHECK(rounding.heads[level] < 2e-2);
      CHECK(relative_error(first(head_order(maps[level].value, anchors), 16), row(heads16, level, 16)) <
            limit(rounding.heads[level]));
    }
    if (g.has("bn_after_train.first8")) {
      std::map<std::string, Buffer*> buffers;
      for (Buffer* b : model.buffers()) buffers[b->name] = b;
      const std::vector<float> first8 = g.at("bn_after_train.first8").f32(), norms = g.at("bn_after_train.l2").f32();
      const auto names = bn_buffer_names(g);
      for (std::size_t i = 0; i < names.size(); ++i) {
        INFO(names[i]);
        const std::vector<float> values = buffers.at(names[i])->value.to_vector();
        CHECK(relative_error(first(values, 8), row(first8, i, 8)) < 1e-4);
        CHECK(l2(values) == doctest::Approx(norms[i]).epsilon(1e-4));
      }
    }
  }
}

/// Evaluation in a 16-bit type: heads, and what is decoded from them.
void check_network(const std::string& name, DType type) {
  CAPTURE(name);
  CAPTURE(std::string(name_of(type)));
  const File g = load("model_" + name);
  TestDevice device(TestDevice::fastest);
  DetectionModel model(device, parse_model_yaml(g.fact("yaml"), name));
  fill_model(model);
  const auto shape = g.fact_json("input_shape").get<std::vector<std::int64_t>>();
  Context context{.device = device, .compute = type};
  const auto maps = model.heads(context, {as_type(fill_image(device, "input", shape), type), -1, nullptr});
  const std::vector<float> heads16 = g.at("eval_heads.first16").f32();
  const auto sums = g.fact_json("eval_head_abs_sums").get<std::vector<double>>();
  for (std::size_t level = 0; level < maps.size(); ++level) {
    const std::vector<float> values = head_order(maps[level].value, model.detect().anchors_each);
    CHECK(relative_error(first(values, 16), row(heads16, level, 16)) < tolerance(type));
    double sum = 0;
    for (const float v : values) sum += std::abs(static_cast<double>(v));
    CHECK(sum == doctest::Approx(sums[level]).epsilon(tolerance(type)));
  }
  CHECK(relative_error(decoded(g, device, model, maps), g.at("decoded_rows").f32()) < tolerance(type));
}
}  // namespace

TEST_CASE("networks equal PyTorch's") {
  for (const char* name : {"yolov5n", "yolov5s", "yolov5m", "yolov5l", "yolov5x", "old_focus_csp_spp", "yolov5-bifpn_n",
                           "yolov5-fpn_n", "yolov5-p6_n", "yolov5s-ghost", "yolov3-tiny"}) {
#ifdef __SANITIZE_ADDRESS__  // the same code, more of it: a sanitizer has nothing to learn from the large ones
    const std::string large = name;
    if (large == "yolov5m" || large == "yolov5l" || large == "yolov5x") continue;
#endif
    check_network(name);
  }
}

TEST_CASE("networks in 16 bits stay near PyTorch's in 64, where the device is not the CPU") {
  TestDevice device;
  for (const DType type : half_types(device))
    for (const char* name : {"yolov5n", "yolov5s", "yolov5m", "yolov5l", "yolov5x", "old_focus_csp_spp", "yolov5-bifpn_n",
                             "yolov5-fpn_n", "yolov5-p6_n", "yolov5s-ghost", "yolov3-tiny"})
      SUBCASE(in_type(type, name).c_str()) { check_network(name, type); }
}

TEST_CASE("the models that frost carries are the reference's") {
  for (const char* name : {"yolov5n", "yolov5s", "yolov5m", "yolov5l", "yolov5x"}) {
    CAPTURE(name);
    const File g = load(std::string("model_") + name);
    const ModelSpec ours = load_model_spec(std::string(name) + ".yaml"), theirs = parse_model_yaml(g.fact("yaml"), name);
    CHECK(ours.layers.size() == theirs.layers.size());
    CHECK(ours.anchors == theirs.anchors);
    for (std::size_t i = 0; i < ours.layers.size(); ++i) {
      CHECK(ours.layers[i].module == theirs.layers[i].module);
      CHECK(ours.layers[i].from == theirs.layers[i].from);
      CHECK(ours.layers[i].number == theirs.layers[i].number);
    }
  }
}

TEST_CASE("summary and table are YOLOv5's") {
  TestDevice device;
  const std::map<std::string, std::pair<std::string, std::string>> expected{
      {"yolov5n",
       {"YOLOv5n summary: 214 layers, 1872157 parameters, 1872157 gradients, 4.6 GFLOPs",
        "YOLOv5n summary: 157 layers, 1867405 parameters, 0 gradients, 4.5 GFLOPs"}},
      {"yolov5s",
       {"YOLOv5s summary: 214 layers, 7235389 parameters, 7235389 gradients, 16.6 GFLOPs",
        "YOLOv5s summary: 157 layers, 7225885 parameters, 0 gradients, 16.4 GFLOPs"}},
      {"yolov5m",
       {"YOLOv5m summary: 291 layers, 21190557 parameters, 21190557 gradients, 49.2 GFLOPs",
        "YOLOv5m summary: 212 layers, 21172173 parameters, 0 gradients, 48.9 GFLOPs"}}};
  for (const auto& [name, lines] : expected) {
    DetectionModel model(device, load_model_spec(name + ".yaml"));
    CHECK(model.summary(false, true) == lines.first);
    CHECK(model.summary(true, false) == lines.second);
  }
  DetectionModel s(device, load_model_spec("yolov5s.yaml"));
  const std::vector<std::int64_t> parameters{3520,   18560,  18816,  73984,  115712, 295424,  625152, 1180672, 1182720,
                                             656896, 131584, 0,      0,      361984, 33024,   0,      0,       90880,
                                             147712, 0,      296448, 590336, 0,      1182720, 229245};
  for (std::size_t i = 0; i < parameters.size(); ++i) CHECK(s.rows()[i].parameters == parameters[i]);
  CHECK(s.table().find("  9                -1  1    656896  models.common.SPPF                      [512, 512, 5]") !=
        std::string::npos);
  CHECK(s.table().find(" 12           [-1, 6]  1         0  models.common.Concat                    [1]") !=
        std::string::npos);
  CHECK(s.table().find(" 11                -1  1         0  torch.nn.modules.upsampling.Upsample    [None, 2, 'nearest']") !=
        std::string::npos);
}

TEST_CASE("loss and parameter gradients through the whole network equal PyTorch's") {
  const File n = load("model_yolov5n");
  for (const char* variant :
       {"loss_base", "loss_no_targets", "loss_label_smoothing", "loss_focal", "loss_pos_weight", "loss_single_class"}) {
    const File g = load(variant);
    const auto hyp = g.fact_json("hyp");
    for (const bool recompute : {true, false}) {
      CAPTURE(variant);
      CAPTURE(recompute);
      TestDevice device(TestDevice::fastest);
      DetectionModel model(device, parse_model_yaml(n.fact("yaml"), "yolov5n", std::stoi(g.fact("classes"))));
      fill_model(model);
      const frost::Tensor image = fill_image(device, "input", g.fact_json("input_shape").get<std::vector<std::int64_t>>());
      yolo::LossSettings settings{.gains = {.box = hyp["box"],
                                            .obj = hyp["obj"],
                                            .cls = hyp["cls"],
                                            .cls_pw = hyp["cls_pw"],
                                            .obj_pw = hyp["obj_pw"],
                                            .anchor_t = hyp["anchor_t"],
                                            .fl_gamma = hyp["fl_gamma"],
                                            .label_smoothing = hyp["label_smoothing"]}};
      const DetectLossResult result =
          yolo::train_step({.device = device}, model, image, g.at("targets").f32(), settings, recompute);
      CHECK(result.loss == doctest::Approx(std::stod(g.fact("loss"))).epsilon(of_sums(2e-5)));
      const auto items = g.fact_json("loss_items_box_obj_cls").get<std::vector<double>>();
      for (std::size_t k = 0; k < 3; ++k) CHECK(result.items[k] == doctest::Approx(items[k]).epsilon(of_sums(2e-5)));

      const auto names = g.fact_json("param_names").get<std::vector<std::string>>();
      const std::vector<float> norms = g.at("param_grad.l2").f32(), first8 = g.at("param_grad.first8").f32();
      std::map<std::string, Parameter*> parameters;
      for (Parameter* p : model.parameters()) parameters[p->name] = p;
      double total = 0;
      for (std::size_t i = 0; i < names.size(); ++i) {
        INFO(names[i]);
        const Parameter& p = *parameters.at(names[i]);
        const HostTensor grad = to_host(p.grad, p.torch_shape);
        const std::vector<float> values = grad.to_f32();
        total += l2(values) * l2(values);
        if (norms[i] < 1e-7) continue;  // a bias before a batch norm would be rounding alone
        // PyTorch's own float32 run lies 3.3e-5 from the reference (fact torch_float32_relative_error).
        CHECK(l2(values) == doctest::Approx(norms[i]).epsilon(2e-4));
        const std::vector<float> expected = row(first8, i, 8);
        const std::vector<float> mine = first(values, 8);
        const double scale = norms[i] / std::sqrt(static_cast<double>(values.size()));  // a typical value of this gradient
        for (std::size_t k = 0; k < 8; ++k)
          CHECK(std::abs(mine[k] - expected[k]) < 5e-4 * std::max(scale, static_cast<double>(std::abs(expected[k]))));
      }
      CHECK(std::sqrt(total) == doctest::Approx(std::stod(g.fact("param_grad_total_l2"))).epsilon(1e-4));
    }
  }
}

namespace {
/// The loss of one step, where 16 bits are averaged over many terms. The gradients, which batch norms over few pixels
/// decide, are half_step_test.cpp's.
void check_step(DType type) {
  CAPTURE(std::string(name_of(type)));
  const File g = load("loss_base"), n = load("model_yolov5n");
  TestDevice device(TestDevice::fastest);
  DetectionModel model(device, parse_model_yaml(n.fact("yaml"), "yolov5n", 3));
  fill_model(model);
  const frost::Tensor image = fill_image(device, "input", g.fact_json("input_shape").get<std::vector<std::int64_t>>());
  const auto hyp = g.fact_json("hyp");
  const std::vector<float> targets = g.at("targets").f32();
  yolo::LossState loss(device, {.gains = {.box = hyp["box"], .obj = hyp["obj"], .cls = hyp["cls"]}},
                       static_cast<std::int64_t>(targets.size() / 6));
  loss.set_targets(targets, image.shape().n, 3);
  yolo::train_step({.device = device, .compute = type}, model, as_type(image, type), loss);
  const double expected = std::stod(g.fact("loss"));
  MESSAGE(std::string(name_of(type)), ": the loss is ", loss.result().loss / expected - 1, " of itself off (limit 0.02)");
  CHECK(loss.result().loss == doctest::Approx(expected).epsilon(0.02));
}
}  // namespace

TEST_CASE("the loss of a step in 16 bits stays near the f32 step's") {
  const auto backend = frost::testing::make_device_backend();
  for (const DType type : {DType::bf16, DType::f16}) {
    if (backend->supports(type))
      check_step(type);
    else if (type == DType::bf16)
      MESSAGE("SKIPPED: this device has no bf16 instructions");  // no CPU computes in f16 here
  }
}
