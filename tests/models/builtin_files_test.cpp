#include "models/graph/builtin_files.h"

#include <doctest/doctest.h>
#include <yaml-cpp/yaml.h>

#include <cmath>
#include <numeric>
#include <string>

#include "models/graph/model_yaml.h"

namespace {

/// Layers, parameters and outputs of a model file by the rules of docs/spec/model.md sections 1.2 and 3, written apart from
/// models/graph on purpose: whoever typed a wrong number into a YAML meets it here, and not in a wrong accuracy.
struct Counts {
  std::int64_t rows = 0, parameters = 0, outputs = 0;
};

std::int64_t conv(std::int64_t c1, std::int64_t c2, std::int64_t k, std::int64_t groups = 1) {
  return c1 / groups * c2 * k * k + 2 * c2;  // weight, batch norm's weight and bias
}
std::int64_t ghost_conv(std::int64_t c1, std::int64_t c2, std::int64_t k) {
  return conv(c1, c2 / 2, k) + conv(c2 / 2, c2 / 2, 5, c2 / 2);
}
std::int64_t bottleneck(std::int64_t c1, std::int64_t c2, double e) {
  const auto hidden = static_cast<std::int64_t>(static_cast<double>(c2) * e);
  return conv(c1, hidden, 1) + conv(hidden, c2, 3);
}

Counts count(const YAML::Node& yaml) {
  const double depth = yaml["depth_multiple"].as<double>(), width = yaml["width_multiple"].as<double>();
  const auto nc = yaml["nc"].as<std::int64_t>();
  const auto anchors =
      yaml["anchors"].IsScalar() ? yaml["anchors"].as<std::int64_t>() : std::int64_t(yaml["anchors"][0].size() / 2);
  std::vector<YAML::Node> rows;
  for (const char* part : {"backbone", "head"})
    for (const auto& row : yaml[part]) rows.push_back(row);

  Counts counts;
  std::vector<std::int64_t> channels;  // of each layer's output
  for (const auto& row : rows) {
    const auto i = std::ssize(channels);
    const auto resolve = [&](std::int64_t from) { return from < 0 ? i + from : from; };
    const auto input = [&](std::int64_t from) { return resolve(from) < 0 ? 3 : channels.at(std::size_t(resolve(from))); };
    std::vector<std::int64_t> from;
    if (row[0].IsSequence())
      from = row[0].as<std::vector<std::int64_t>>();
    else
      from = {row[0].as<std::int64_t>()};
    const auto number = row[1].as<std::int64_t>();
    const auto n = number > 1 ? std::max<std::int64_t>(std::int64_t(std::nearbyint(double(number) * depth)), 1) : number;
    const auto module = row[2].as<std::string>();
    const auto& args = row[3];
    const std::int64_t c1 = input(from[0]);
    const auto wide = [&] { return std::int64_t(std::ceil(args[0].as<double>() * width / 8)) * 8; };
    const auto k = [&](std::size_t at, std::int64_t otherwise) {
      return args.size() > at ? args[at].as<std::int64_t>() : otherwise;
    };
    std::int64_t c2 = c1, sum = 0;
    if (module == "Concat") {
      c2 = std::accumulate(from.begin(), from.end(), std::int64_t{0}, [&](auto total, auto f) { return total + input(f); });
    } else if (module == "Detect") {
      for (const auto f : from) sum += (input(f) + 1) * anchors * (nc + 5);
      counts.outputs = std::ssize(from);
      if (!yaml["anchors"].IsScalar()) CHECK(yaml["anchors"].size() == from.size());
    } else if (module != "nn.Upsample" && module != "nn.MaxPool2d" && module != "nn.ZeroPad2d") {
      c2 = wide();
      const std::int64_t h = c2 / 2;
      if (module == "Conv")
        sum = conv(c1, c2, k(1, 1));
      else if (module == "Focus")
        sum = conv(4 * c1, c2, k(1, 1));
      else if (module == "GhostConv")
        sum = ghost_conv(c1, c2, k(1, 1));
      else if (module == "Bottleneck") {
        sum = bottleneck(c1, c2, 0.5);
        for (std::int64_t j = 1; j < n; ++j) sum += bottleneck(c1, c2, 0.5);
      } else if (module == "C3")
        sum = 2 * conv(c1, h, 1) + conv(2 * h, c2, 1) + n * bottleneck(h, h, 1);
      else if (module == "C3Ghost")
        sum = 2 * conv(c1, h, 1) + conv(2 * h, c2, 1) + n * (ghost_conv(h, h / 2, 1) + ghost_conv(h / 2, h, 1));
      else if (module == "BottleneckCSP")
        sum = conv(c1, h, 1) + c1 * h + h * h + conv(2 * h, c2, 1) + 4 * h + n * bottleneck(h, h, 1);
      else if (module == "SPPF")
        sum = conv(c1, c1 / 2, 1) + conv(4 * (c1 / 2), c2, 1);
      else if (module == "SPP")
        sum = conv(c1, c1 / 2, 1) + conv(c1 / 2 * (1 + std::int64_t(args[1].size())), c2, 1);
      else
        FAIL("unknown module " << module);
    }
    counts.parameters += sum;
    channels.push_back(c2);
    ++counts.rows;
  }
  return counts;
}

}  // namespace

TEST_CASE("builtin_files: every model file has the rows, the outputs and the parameters that the reference has") {
  struct Expected {
    const char* name;
    Counts counts;
  };
  const Expected all[] = {
      // docs/spec/model.md sections 7, 8 and 9.2
      {"yolov3", {29, 61949149, 3}},           {"yolov3-spp", {29, 62998749, 3}},   {"yolov3-tiny", {21, 8852366, 2}},
      {"yolov5-bifpn", {25, 46825853, 3}},     {"yolov5-fpn", {20, 41117565, 3}},   {"yolov5-old", {25, 7468157, 3}},
      {"yolov5-p2", {32, 47493372, 4}},        {"yolov5-p34", {22, 5331518, 2}},    {"yolov5-p6", {34, 76770172, 4}},
      {"yolov5-p7", {43, 144281723, 5}},       {"yolov5-panet", {25, 46563709, 3}}, {"yolov5n", {25, 1872157, 3}},
      {"yolov5s", {25, 7235389, 3}},           {"yolov5m", {25, 21190557, 3}},      {"yolov5l", {25, 46563709, 3}},
      {"yolov5x", {25, 86749405, 3}},          {"yolov5n6", {34, 3246940, 4}},      {"yolov5s6", {34, 12626620, 4}},
      {"yolov5m6", {34, 35731932, 4}},         {"yolov5l6", {34, 76770172, 4}},     {"yolov5x6", {34, 140794780, 4}},
      {"yolov5s-LeakyReLU", {25, 7235389, 3}}, {"yolov5s-ghost", {25, 3897605, 3}},
  };
  for (const Expected& expected : all) {
    CAPTURE(expected.name);
    const auto text = frost::builtin_file(std::string(expected.name) + ".yaml");
    REQUIRE(text.has_value());
    const Counts counts = count(YAML::Load(std::string(*text)));
    CHECK(counts.rows == expected.counts.rows);
    CHECK(counts.parameters == expected.counts.parameters);
    CHECK(counts.outputs == expected.counts.outputs);
  }
  const auto models =
      std::ranges::count_if(frost::builtin_files(), [](const auto& file) { return file.name.starts_with("yolo"); });
  CHECK(models == std::ssize(all));  // a new file wants a line here
}

TEST_CASE("builtin_files: looked up by whole names only; every .yaml is YAML") {
  CHECK(frost::builtin_file("yolov5n").has_value());
  CHECK(frost::builtin_file("yolov5n") == frost::builtin_file("yolov5n.yaml"));
  CHECK(YAML::Load(std::string(*frost::builtin_file("yolov5s-LeakyReLU")))["activation"].as<std::string>() ==
        "nn.LeakyReLU(0.1)");
  CHECK(frost::builtin_file("hyp.scratch-low").has_value());
  for (const char* name : {"", "yolov5", "yolov5n.yam", "models/yolov5n.yaml", ".yaml"})
    CHECK(!frost::builtin_file(name).has_value());
  for (const auto& file : frost::builtin_files()) {
    CAPTURE(file.name);
    if (file.name.ends_with(".yaml")) CHECK(YAML::Load(std::string(file.text)).IsMap());
  }
}

TEST_CASE("builtin_files: a model that is named without .yaml has the file's whole name, for checkpoints and summaries") {
  for (const std::string name : {"yolov5n", "yolov5s6", "yolov5s-ghost", "yolov5-bifpn"}) {
    CAPTURE(name);
    CHECK(frost::load_model_spec(name).name == name + ".yaml");
    CHECK(frost::load_model_spec(name + ".yaml").name == name + ".yaml");
  }
}
