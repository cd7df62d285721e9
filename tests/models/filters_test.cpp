#include "models/slim/filters.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <map>

#include "engine/checkpoint/safetensors.h"
#include "engine/nn/widths.h"
#include "models/classify/weights.h"
#include "models/slim/prune.h"
#include "tests/device.h"
#include "tests/models/model_fixture.h"
#include "tests/models/temp_dataset.h"

// Whole filters removed: the smaller model is the larger one without those channels, and its state is all it needs.
using namespace frost;
using namespace frost::slim;

namespace {

ChannelGraph trace(Device& device, DetectionModel& model) {
  return trace_channels(device, model, {1, 64, 64, 3},
                        [&](Context& context, const Var& image) { return model.heads(context, image); });
}

std::vector<std::vector<float>> heads_of(Device& device, DetectionModel& model, const Tensor& image, bool training = false) {
  Context context{.device = device, .training = training};
  std::vector<std::vector<float>> values;
  for (const Var& map : model.heads(context, {image, -1, nullptr})) values.push_back(map.value.to_vector());
  return values;
}

/// The dense model with the removed channels' outputs read as zero: whoever reads them has zeros for weights there. (Zero
/// filters would not do: a norm's bias and the activation make a constant of them.)
void unread(const ChannelGraph& graph, const std::vector<bool>& keep) {
  for (const ChannelGraph::Conv& c : graph.convs) {
    if (c.conv->depthwise()) continue;                             // hands the channel on: its readers are cut off
    std::vector<float> weight = c.conv->weight.value.to_vector();  // OHWI
    for (std::size_t i = 0; i < weight.size(); ++i) {
      const int k = c.in[i % c.in.size()];
      if (k != ChannelGraph::kFixed && !keep[static_cast<std::size_t>(k)]) weight[i] = 0;
    }
    c.conv->weight.value.assign(weight);
    c.conv->weight.touch();
  }
}

const ChannelGraph::Conv& conv_named(const ChannelGraph& graph, const std::string& name) {
  for (const ChannelGraph::Conv& c : graph.convs)
    if (c.conv->name() == name) return c;
  throw std::runtime_error("no " + name);
}

}  // namespace

TEST_CASE("the tape says which channels belong together") {
  frost::testing::TestDevice device;
  DetectionModel model(device, load_model_spec("yolov5n.yaml", 3));
  const ChannelGraph graph = trace(device, model);
  CHECK(graph.convs.size() == 60);
  CHECK(graph.norms.size() == 57);
  for (const int k : conv_named(graph, "model.0.conv").in) CHECK(k == ChannelGraph::kFixed);
  for (const int k : conv_named(graph, "model.24.m.1").out) CHECK(k == ChannelGraph::kFixed);
  // y = x + cv2(cv1(x)): with the residual the bottleneck's output is its input's class; its middle is its own
  CHECK((conv_named(graph, "model.2.m.0.cv2.conv").out == conv_named(graph, "model.2.cv1.conv").out));
  CHECK((conv_named(graph, "model.2.m.0.cv1.conv").out != conv_named(graph, "model.2.cv1.conv").out));
  CHECK((conv_named(graph, "model.13.m.0.cv2.conv").out != conv_named(graph, "model.13.cv1.conv").out));  // no shortcut
  // C3: cv3 reads [m, cv2]
  std::vector<int> both = conv_named(graph, "model.13.m.0.cv2.conv").out;
  const std::vector<int> shallow = conv_named(graph, "model.13.cv2.conv").out;
  both.insert(both.end(), shallow.begin(), shallow.end());
  CHECK((conv_named(graph, "model.13.cv3.conv").in == both));
  // SPPF: the same channels four times
  std::vector<int> four;
  for (int i = 0; i < 4; ++i)
    for (const int k : conv_named(graph, "model.9.cv1.conv").out) four.push_back(k);
  CHECK((conv_named(graph, "model.9.cv2.conv").in == four));
  // Concat over the graph: layer 13 reads [upsampled 10, 6]
  std::vector<int> joined = conv_named(graph, "model.10.conv").out;
  const std::vector<int> skip = conv_named(graph, "model.6.cv3.conv").out;
  joined.insert(joined.end(), skip.begin(), skip.end());
  CHECK((conv_named(graph, "model.13.cv1.conv").in == joined));
  // Each class is in one group.
  std::vector<int> seen(static_cast<std::size_t>(graph.classes));
  for (const auto& group : graph.groups)
    for (const int k : group) ++seen[static_cast<std::size_t>(k)];
  CHECK(std::count(seen.begin(), seen.end(), 1) == graph.classes);
}

TEST_CASE("the smaller model computes what the larger one does without the removed channels, and loads from its state") {
  for (const char* name : {"yolov5n.yaml", "yolov5s-ghost.yaml", "yolov5-old.yaml", "yolov5n6.yaml"})
    for (const Importance importance : {Importance::l1, Importance::bn}) {
      if (importance == Importance::bn && std::string(name) != "yolov5n.yaml") continue;
      CAPTURE(name);
      frost::testing::TestDevice device;
      DetectionModel model(device, load_model_spec(name, 3));
      golden::fill_model(model);
      const std::int64_t side = 2 * model.stride();
      const Tensor image = golden::fill_image(device, "filters", {1, 3, side, side + model.stride()});
      const ChannelGraph graph = trace(device, model);
      const std::vector<bool> all(static_cast<std::size_t>(graph.classes), true);
      const std::vector<bool> keep = choose_channels(graph, channel_importance(graph, importance), 0.4);
      const double left = graph.work(keep) / graph.work(all);
      CHECK(left <= 0.6);
      CHECK(left > 0.55);

      unread(graph, keep);
      const auto batch = heads_of(device, model, image, true);  // moves the running statistics: first
      const auto expected = heads_of(device, model, image);
      remove_channels(graph, keep);
      const auto found = heads_of(device, model, image);
      for (std::size_t level = 0; level < expected.size(); ++level)
        CHECK(golden::relative_error(found[level], expected[level]) < 1e-5);
      for (const Conv2d* conv : prunable(model)) {
        CAPTURE(conv->name());
        if (!conv->name().starts_with("model.24.m") && !conv->name().starts_with("model.33.m")) CHECK(conv->out % 8 == 0);
      }

      DetectionModel rebuilt(device, model.spec(), 5, widths_of(model));
      const LoadReport report = load_state(rebuilt, state_of(model));
      CHECK(report.copied == report.total);
      CHECK((heads_of(device, rebuilt, image) == found));
      const auto again = heads_of(device, rebuilt, image, true);  // with batch statistics of a few pixels: more rounding
      for (std::size_t level = 0; level < expected.size(); ++level)
        CHECK(golden::relative_error(again[level], batch[level]) < 1e-3);
    }
}

TEST_CASE(
    "a smaller classifier computes what the larger one does without the removed channels, and comes back from its file") {
  for (const std::string& name : classify::classifier_names()) {
    if (name == "resnet34" || name == "resnet50" || (name.starts_with("yolov5") && name != "yolov5n-cls"))
      continue;  // larger
    CAPTURE(name);
    frost::testing::TestDevice device;
    const auto model = classify::make_classifier(device, name, 5, {});
    golden::fill_model(*model);
    const int side = model->smallest_imgsz();
    const Tensor image = golden::fill_image(device, "filters", {2, 3, std::max(64, side), std::max(64, side) + 32});
    const auto logits = [&](classify::Classifier& m) {
      Context context{.device = device};
      return m.forward(context, {image, -1, nullptr}).value.to_vector();
    };
    const ChannelGraph graph = trace_channels(device, *model, {1, side, side, 3}, [&](Context& context, const Var& x) {
      return std::vector<Var>{model->forward(context, x)};
    });
    const std::vector<bool> keep = choose_channels(graph, channel_importance(graph, Importance::l1), 0.4);
    unread(graph, keep);
    const std::vector<float> expected = logits(*model);
    remove_channels(graph, keep);
    CHECK(golden::relative_error(logits(*model), expected) < 1e-5);

    if (name.starts_with("vgg")) continue;  // 400 MB of linear layers, which filters do not touch
    const test::TempDir dir;
    write_safetensors(dir / "small.safetensors", state_of(*model), model->metadata());
    const auto again = classify::load_classifier(device, dir / "small.safetensors");
    CHECK(widths_of(*again) == widths_of(*model));
    CHECK((logits(*again) == logits(*model)));
  }
}

TEST_CASE("a fitted model's table shows its own widths") {
  frost::testing::TestDevice device;
  DetectionModel model(device, load_model_spec("yolov5n.yaml", 3));
  const ChannelGraph graph = trace(device, model);
  remove_channels(graph, choose_channels(graph, channel_importance(graph, Importance::l1), 0.5));
  const DetectionModel rebuilt(device, model.spec(), 0, widths_of(model));
  std::int64_t parameters = 0;
  for (const DetectionModel::Row& row : rebuilt.rows()) parameters += row.parameters;
  CHECK(parameters == sparsity(model).parameters);
  const std::int64_t stem = conv_named(graph, "model.0.conv").conv->out;
  CHECK(rebuilt.rows()[0].arguments == "[3, " + std::to_string(stem) + ", 6, 2, 2]");
  CHECK(rebuilt.rows()[1].arguments.starts_with("[" + std::to_string(stem) + ", "));
}

TEST_CASE("what stays is a multiple of what was asked for") {
  frost::testing::TestDevice device;
  DetectionModel model(device, load_model_spec("yolov5s.yaml", 3));
  const ChannelGraph graph = trace(device, model);
  const std::vector<bool> all(static_cast<std::size_t>(graph.classes), true);
  for (const int multiple : {1, 16, 32}) {
    CAPTURE(multiple);
    const std::vector<bool> keep = choose_channels(graph, channel_importance(graph, Importance::l1), 0.4, multiple);
    CHECK(graph.work(keep) / graph.work(all) <= 0.6);
    bool whole = true, odd = false;
    for (const ChannelGraph::Conv& c : graph.convs) {
      const auto stay = std::count_if(c.out.begin(), c.out.end(),
                                      [&](int k) { return k != ChannelGraph::kFixed && keep[static_cast<std::size_t>(k)]; });
      whole &= stay % multiple == 0;
      odd |= stay % 8 != 0;
    }
    CHECK(whole);
    CHECK(odd == (multiple == 1));
  }
}

TEST_CASE("too much is refused, nothing is nothing, and masks shrink with their filters") {
  frost::testing::TestDevice device;
  DetectionModel model(device, load_model_spec("yolov5n.yaml", 3));
  prune_l1(model, 0.3);
  const ChannelGraph graph = trace(device, model);
  const std::vector<double> importance = channel_importance(graph, Importance::l1);
  CHECK_THROWS_AS(choose_channels(graph, importance, 0.999), Error);
  const std::vector<bool> all = choose_channels(graph, importance, 0);
  CHECK(std::count(all.begin(), all.end(), true) == graph.classes);
  remove_channels(graph, choose_channels(graph, importance, 0.5));
  for (const Conv2d* conv : prunable(model)) {
    CAPTURE(conv->name());
    REQUIRE(conv->weight.mask);
    const std::vector<float> values = conv->weight.value.to_vector(), mask = conv->weight.mask.to_vector();
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < values.size(); ++i) wrong += (values[i] == 0.0f) != (mask[i] == 0.0f);
    CHECK(wrong == 0);
  }
}

TEST_CASE("widths that do not fit each other are an error, not a crash") {
  frost::testing::TestDevice device;
  const ModelSpec spec = load_model_spec("yolov5n.yaml", 3);
  DetectionModel model(device, spec);
  for (const auto& [name, shape] :
       std::vector<std::pair<std::string, std::vector<std::int64_t>>>{{"model.1.conv.weight", {32, 8, 3, 3}},
                                                                      {"model.1.conv.weight", {24, 16, 3, 3}},
                                                                      {"model.1.bn.weight", {8}},
                                                                      {"model.2.cv2.conv.weight", {40, 32, 1, 1}},
                                                                      {"model.2.cv2.conv.weight", {8, 32, 1, 1}},
                                                                      {"model.2.cv3.conv.weight", {32, 8, 1, 1}},
                                                                      {"model.2.m.0.cv2.conv.weight", {8, 16, 3, 3}},
                                                                      {"model.9.cv1.conv.weight", {64, 256, 1, 1}},
                                                                      {"model.3.conv.weight", {0, 32, 3, 3}},
                                                                      {"model.24.m.0.weight", {24, 8, 1, 1}}}) {
    CAPTURE(name);
    Widths widths = widths_of(model);
    widths[name] = shape;
    CHECK_THROWS_AS(DetectionModel(device, spec, 0, widths), Error);
  }
}
