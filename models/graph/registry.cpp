#include "models/graph/registry.h"

#include <fmt/format.h>

#include <cmath>
#include <functional>
#include <map>
#include <numeric>

#include "models/graph/detection_model.h"

namespace frost {
namespace {

/// The arguments of one row, read with defaults; every wrong one is an Error that names the row.
class Args {
 public:
  Args(const ModelSpec& spec, const LayerSpec& layer) : spec_(spec), layer_(layer) {}
  std::size_t size() const { return layer_.args.size(); }
  std::string where() const { return fmt::format("{}: layer {} ({})", spec_.name, layer_.index, layer_.module); }

  int integer(std::size_t i, int otherwise) const { return given(i) ? read<int>(i, "a whole number") : otherwise; }
  int integer(std::size_t i) const {
    FROST_CHECK(given(i), where(), ": argument ", i + 1, " is missing");
    return integer(i, 0);
  }
  /// A kernel, a stride, a count of groups: at least 1, and nothing that overflows.
  int positive(std::size_t i, int otherwise) const { return within(i, integer(i, otherwise), 1); }
  int not_negative(std::size_t i, int otherwise) const { return within(i, integer(i, otherwise), 0); }
  /// A padding, where -1 (not given) asks for half the kernel.
  int padding(std::size_t i) const { return given(i) ? not_negative(i, 0) : -1; }
  int within(std::size_t i, int value, int least) const {
    FROST_CHECK(value >= least && value <= 4096, where(), ": argument ", i + 1, " is ", value, ", expected ", least,
                " to 4096");
    return value;
  }
  double real(std::size_t i, double otherwise) const { return given(i) ? read<double>(i, "a number") : otherwise; }
  bool flag(std::size_t i, bool otherwise) const { return given(i) ? read<bool>(i, "True or False") : otherwise; }
  std::string text(std::size_t i, const std::string& otherwise) const {
    return given(i) ? read<std::string>(i, "a word") : otherwise;
  }
  std::vector<int> list(std::size_t i, const std::vector<int>& otherwise, int least) const {
    const std::vector<int> values = given(i) ? read<std::vector<int>>(i, "a list of whole numbers") : otherwise;
    for (const int value : values) within(i, value, least);
    return values;
  }
  /// The argument as YOLOv5 prints it.
  std::string printed(std::size_t i) const {
    const YAML::Node& node = layer_.args[i];
    if (node.IsSequence()) {
      std::vector<std::string> items;
      for (const YAML::Node& item : node) items.push_back(item.IsSequence() ? "[...]" : item.as<std::string>());
      return fmt::format("[{}]", fmt::join(items, ", "));
    }
    const std::string text = node.as<std::string>();
    if (text == "nearest" || text == "bilinear") return "'" + text + "'";
    return text;
  }

 private:
  bool given(std::size_t i) const {
    return i < layer_.args.size() && !layer_.args[i].IsNull() &&
           !(layer_.args[i].IsScalar() && layer_.args[i].Scalar() == "None");
  }
  template <class T>
  T read(std::size_t i, const char* expected) const {
    try {
      return layer_.args[i].as<T>();
    } catch (const YAML::Exception&) {
      fail(where(), ": argument ", i + 1, " should be ", expected);
    }
  }
  const ModelSpec& spec_;
  const LayerSpec& layer_;
};

struct Row {  // what a maker sees of its row
  const BlockBuilder& builder;
  const Args& args;
  std::int64_t c1, c2;
  int number;  // repeats, for blocks that repeat inside
};
struct Block {
  const char* type;
  bool repeats_inside;
  std::function<std::unique_ptr<Module>(const Row&)> make;
};

/// Blocks with (c1, c2, args[1:]...): the output's channels are args[0], scaled by width_multiple.
const std::map<std::string, Block>& blocks() {
  static const std::map<std::string, Block> table = {
      {"Conv",
       {"models.common.Conv", false,
        [](const Row& r) {
          return r.builder.conv(r.c1, r.c2, r.args.positive(1, 1), r.args.positive(2, 1), r.args.padding(3),
                                r.args.positive(4, 1));
        }}},
      {"DWConv",
       {"models.common.DWConv", false,
        [](const Row& r) {
          return r.builder.conv(r.c1, r.c2, r.args.positive(1, 1), r.args.positive(2, 1), -1,
                                static_cast<int>(std::gcd(r.c1, r.c2)));
        }}},
      {"Bottleneck",
       {"models.common.Bottleneck", false,
        [](const Row& r) {
          return std::make_unique<Bottleneck>(r.builder, r.c1, r.c2, r.args.flag(1, true), r.args.positive(2, 1),
                                              r.args.real(3, 0.5));
        }}},
      {"BottleneckCSP",
       {"models.common.BottleneckCSP", true,
        [](const Row& r) {
          return std::make_unique<BottleneckCSP>(r.builder, r.c1, r.c2, r.number, r.args.flag(1, true),
                                                 r.args.positive(2, 1), r.args.real(3, 0.5));
        }}},
      {"C3",
       {"models.common.C3", true,
        [](const Row& r) {
          return std::make_unique<C3>(r.builder, r.c1, r.c2, r.number, r.args.flag(1, true), r.args.positive(2, 1),
                                      r.args.real(3, 0.5));
        }}},
      {"C3Ghost",
       {"models.common.C3Ghost", true,
        [](const Row& r) { return std::make_unique<C3Ghost>(r.builder, r.c1, r.c2, r.number, r.args.real(3, 0.5)); }}},
      {"SPP",
       {"models.common.SPP", false,
        [](const Row& r) {
          return std::make_unique<SPP>(r.builder, r.c1, r.c2, r.args.list(1, {5, 9, 13}, 1));
        }}},
      {"SPPF",
       {"models.common.SPPF", false,
        [](const Row& r) { return std::make_unique<SPPF>(r.builder, r.c1, r.c2, r.args.positive(1, 5)); }}},
      {"Focus",
       {"models.common.Focus", false,
        [](const Row& r) {
          return std::make_unique<Focus>(r.builder, r.c1, r.c2, r.args.positive(1, 1), r.args.positive(2, 1),
                                         r.args.padding(3), r.args.positive(4, 1));
        }}},
      {"GhostConv",
       {"models.common.GhostConv", false,
        [](const Row& r) {
          return std::make_unique<GhostConv>(r.builder, r.c1, r.c2, r.args.positive(1, 1), r.args.positive(2, 1),
                                             r.args.positive(3, 1));
        }}},
      {"GhostBottleneck",
       {"models.common.GhostBottleneck", false,
        [](const Row& r) {
          return std::make_unique<GhostBottleneck>(r.builder, r.c1, r.c2, r.args.positive(1, 3), r.args.positive(2, 1));
        }}},
  };
  return table;
}

/// Modules that keep the number of channels and take their arguments as written.
struct Plain {
  const char* type;
  std::function<std::unique_ptr<Module>(const Args&)> make;
};
const std::map<std::string, Plain>& plain_modules() {
  static const std::map<std::string, Plain> table = {
      {"nn.Upsample",
       {"torch.nn.modules.upsampling.Upsample",
        [](const Args& a) -> std::unique_ptr<Module> {
          const std::string mode = a.text(2, "nearest");
          FROST_CHECK(mode == "nearest" || mode == "bilinear", a.where(), ": mode '", mode, "' is not nearest or bilinear");
          return std::make_unique<Upsample>(a.positive(1, 2),
                                            mode == "nearest" ? ResizeMode::nearest : ResizeMode::bilinear);
        }}},
      {"nn.MaxPool2d",
       {"torch.nn.modules.pooling.MaxPool2d",
        [](const Args& a) -> std::unique_ptr<Module> {
          const int kernel = a.positive(0, 0);
          return std::make_unique<MaxPool2d>(PoolGeometry{kernel, a.positive(1, kernel), a.not_negative(2, 0)});
        }}},
      {"nn.ZeroPad2d",
       {"torch.nn.modules.padding.ZeroPad2d",
        [](const Args& a) -> std::unique_ptr<Module> {
          const std::vector<int> p = a.list(0, {}, 0);
          FROST_CHECK(p.size() == 4, a.where(), ": expected [left, right, top, bottom]");
          return std::make_unique<ZeroPad2d>(p[0], p[1], p[2], p[3]);
        }}},
      {"nn.Identity",
       {"torch.nn.modules.linear.Identity",
        [](const Args&) -> std::unique_ptr<Module> { return std::make_unique<Identity>(); }}},
  };
  return table;
}

std::string joined_args(std::vector<std::string> items, const Args& args, std::size_t first) {
  for (std::size_t i = first; i < args.size(); ++i) items.push_back(args.printed(i));
  return fmt::format("[{}]", fmt::join(items, ", "));
}

std::vector<std::vector<float>> level_anchors(const ModelSpec& spec, std::size_t levels) {
  if (!spec.anchors_each) return spec.anchors;
  std::vector<float> placeholder(static_cast<std::size_t>(spec.anchors_each) * 2);
  std::iota(placeholder.begin(), placeholder.end(), 0.0f);
  return std::vector<std::vector<float>>(levels, placeholder);
}

BuiltLayer build_block(const BlockBuilder& builder, const ModelSpec& spec, const LayerSpec& layer, const Block& block,
                       const Args& args, std::int64_t c1) {
  std::int64_t c2 = args.integer(0);
  const std::int64_t outputs = static_cast<std::int64_t>(spec.anchor_count()) * (spec.classes + 5);
  if (c2 != outputs) c2 = static_cast<std::int64_t>(std::ceil(static_cast<double>(c2) * spec.width_multiple / 8)) * 8;
  FROST_CHECK(c2 > 0 && c2 <= 1 << 20, args.where(), ": ", c2, " channels");
  const int repeats = block.repeats_inside ? 1 : layer.number;
  BuiltLayer built;
  std::int64_t in = c1;
  const auto make = [&] {
    auto module = block.make({builder, args, in, c2, layer.number});
    return module;
  };
  if (repeats == 1) {
    built.module = make();
  } else {  // YOLOv5 repeats with the same arguments, so a repeated block must keep its channels
    FROST_CHECK(c1 == c2, args.where(), ": ", layer.number, " repeats need equal input and output channels, got ", c1,
                " and ", c2);
    auto chain = std::make_unique<Sequential>();
    for (int i = 0; i < repeats; ++i) chain->append(make());
    built.module = std::move(chain);
  }
  built.channels = c2;
  built.type = block.type;
  std::vector<std::string> head{std::to_string(c1), std::to_string(c2)};
  if (block.repeats_inside) head.push_back(std::to_string(layer.number));
  built.arguments = joined_args(std::move(head), args, 1);
  return built;
}

}  // namespace

std::vector<std::string> known_modules() {
  std::vector<std::string> names{"Concat", "Detect"};
  for (const auto& [name, block] : blocks()) names.push_back(name);
  for (const auto& [name, plain] : plain_modules()) names.push_back(name);
  return names;
}

BuiltLayer build_layer(const BlockBuilder& builder, const ModelSpec& spec, const LayerSpec& layer,
                       const std::vector<std::int64_t>& inputs) {
  const Args args(spec, layer);
  BuiltLayer built;
  if (layer.module == "Concat") {
    FROST_CHECK(args.integer(0, 1) == 1, args.where(), ": only channels (axis 1) can be joined");
    built.module = std::make_unique<Concat>();
    built.channels = std::accumulate(inputs.begin(), inputs.end(), std::int64_t{0});
    built.type = "models.common.Concat";
    built.arguments = joined_args({}, args, 0);
  } else if (layer.module == "Detect") {
    const auto anchors = level_anchors(spec, inputs.size());
    FROST_CHECK(anchors.size() == inputs.size(), args.where(), ": ", inputs.size(), " inputs but anchors for ",
                anchors.size(), " levels");
    built.module = std::make_unique<Detect>(builder.device, spec.classes, anchors, inputs);
    built.channels = 0;
    built.type = "models.yolo.Detect";
    std::vector<std::string> levels;
    for (const auto& level : anchors) levels.push_back(fmt::format("[{}]", fmt::join(level, ", ")));
    built.arguments = fmt::format("[{}, [{}], [{}]]", spec.classes, fmt::join(levels, ", "), fmt::join(inputs, ", "));
  } else {
    FROST_CHECK(inputs.size() == 1, args.where(), ": takes one input, 'from' lists ", inputs.size());
    if (const auto block = blocks().find(layer.module); block != blocks().end()) {
      built = build_block(builder, spec, layer, block->second, args, inputs[0]);
    } else if (const auto plain = plain_modules().find(layer.module); plain != plain_modules().end()) {
      built.module = plain->second.make(args);
      built.channels = inputs[0];
      built.type = plain->second.type;
      built.arguments = joined_args({}, args, 0);
    } else {
      fail(spec.name, ": layer ", layer.index, ": unknown module '", layer.module,
           "' (known: ", fmt::format("{}", fmt::join(known_modules(), ", ")), ")");
    }
  }
  built.printed_number = layer.number;
  return built;
}

}  // namespace frost
