#include "models/graph/registry.h"

#include <fmt/format.h>

#include <cmath>
#include <functional>
#include <map>
#include <numeric>
#include <set>

#include "models/graph/detect.h"
#include "models/graph/row_args.h"

namespace frost {
namespace {

std::int64_t scaled_channels(const ModelSpec& spec, std::int64_t channels) {
  if (channels == static_cast<std::int64_t>(spec.anchor_count()) * (spec.classes + 5)) return channels;
  return static_cast<std::int64_t>(std::ceil(static_cast<double>(channels) * spec.width_multiple / 8)) * 8;
}

struct Row {  // what a maker sees of its row
  const BlockBuilder& builder;
  const RowArgs& args;
  std::int64_t c1, c2;
  int number;  // repeats, for blocks that repeat inside
  /// Scales a row's channels as YOLOv5 does.
  std::int64_t scaled(std::int64_t channels) const { return scaled_channels(args.spec(), channels); }
};
using Make = std::function<std::unique_ptr<Module>(const Row&)>;

/// v7.0's arguments end with dilation and activation; up to v6.2 there was no dilation, and the activation was in its
/// place. A value there that is no number is the older form.
struct DilationAndActivation {
  Pair dilation = 1;
  std::optional<Activation> activation;
  DilationAndActivation(const Row& r, std::size_t at) {
    const bool older = r.args.size() == at + 1 && !r.args.whole_number(at) && !r.args.list(at);
    dilation = older ? Pair(1) : r.args.pair(at, 1, 1);
    activation = r.args.activation(older ? at : at + 1);
  }
};

struct Block {
  const char* type;
  std::vector<std::string> arguments;  // what a row may list, the output's channels first
  Make make;
  bool repeats_inside = false;
};

/// Blocks with (c1, c2, args[1:]...): the output's channels are args[0], scaled by width_multiple.
const std::map<std::string, Block>& blocks() {
  static const std::vector<std::string> csp{"channels", "shortcut", "groups", "expansion"};
  static const std::map<std::string, Block> table = {
      {"Conv",
       {"models.common.Conv",
        {"channels", "kernel", "stride", "padding", "groups", "dilation", "activation"},
        [](const Row& r) {
          const DilationAndActivation last(r, 5);
          return r.builder.conv(r.c1, r.c2,
                                {.kernel = r.args.pair(1, 1, 1),
                                 .stride = r.args.pair(2, 1, 1),
                                 .padding = r.args.padding(3),
                                 .groups = r.args.whole(4, 1, 1),
                                 .dilation = last.dilation,
                                 .activation = last.activation});
        }}},
      {"DWConv",
       {"models.common.DWConv",
        {"channels", "kernel", "stride", "dilation", "activation"},
        [](const Row& r) {
          const DilationAndActivation last(r, 3);
          return r.builder.conv(r.c1, r.c2,
                                {.kernel = r.args.pair(1, 1, 1),
                                 .stride = r.args.pair(2, 1, 1),
                                 .groups = std::gcd(r.c1, r.c2),
                                 .dilation = last.dilation,
                                 .activation = last.activation});
        }}},
      {"Bottleneck",
       {"models.common.Bottleneck", csp,
        [](const Row& r) {
          return std::make_unique<Bottleneck>(r.builder, r.c1, r.c2, r.args.flag(1, true), r.args.whole(2, 1, 1),
                                              r.args.expansion(3, 0.5));
        }}},
      {"BottleneckCSP",
       {"models.common.BottleneckCSP", csp,
        [](const Row& r) {
          return std::make_unique<BottleneckCSP>(r.builder, r.c1, r.c2, r.number, r.args.flag(1, true),
                                                 r.args.whole(2, 1, 1), r.args.expansion(3, 0.5));
        },
        true}},
      {"C3",
       {"models.common.C3", csp,
        [](const Row& r) {
          return std::make_unique<C3>(r.builder, r.c1, r.c2, r.number, r.args.flag(1, true), r.args.whole(2, 1, 1),
                                      r.args.expansion(3, 0.5));
        },
        true}},
      {"C3Ghost",
       {"models.common.C3Ghost", csp,
        [](const Row& r) {
          r.args.flag(1, true), r.args.whole(2, 1, 1);  // GhostBottlenecks have neither: YOLOv5 ignores both
          return std::make_unique<C3Ghost>(r.builder, r.c1, r.c2, r.number, r.args.expansion(3, 0.5));
        },
        true}},
      {"SPP",
       {"models.common.SPP",
        {"channels", "kernels"},
        [](const Row& r) {
          const std::vector<int> kernels = r.args.whole_list(1, {5, 9, 13}, 1, PoolGeometry::kLargest);
          for (const int k : kernels)
            if (k % 2 == 0) r.args.refuse(1, "odd kernels: others change the size");
          return std::make_unique<SPP>(r.builder, r.c1, r.c2, kernels);
        }}},
      {"SPPF",
       {"models.common.SPPF",
        {"channels", "kernel"},
        [](const Row& r) {
          const int kernel = r.args.whole(1, 5, 1, PoolGeometry::kLargest);
          if (kernel % 2 == 0) r.args.refuse(1, "an odd kernel: others change the size");
          return std::make_unique<SPPF>(r.builder, r.c1, r.c2, kernel);
        }}},
      {"Focus",
       {"models.common.Focus",
        {"channels", "kernel", "stride", "padding", "groups", "activation"},
        [](const Row& r) {
          return std::make_unique<Focus>(r.builder, r.c1, r.c2,
                                         ConvOptions{.kernel = r.args.pair(1, 1, 1),
                                                     .stride = r.args.pair(2, 1, 1),
                                                     .padding = r.args.padding(3),
                                                     .groups = r.args.whole(4, 1, 1),
                                                     .activation = r.args.activation(5)});
        }}},
      {"GhostConv",
       {"models.common.GhostConv",
        {"channels", "kernel", "stride", "groups", "activation"},
        [](const Row& r) {
          return std::make_unique<GhostConv>(r.builder, r.c1, r.c2,
                                             ConvOptions{.kernel = r.args.pair(1, 1, 1),
                                                         .stride = r.args.pair(2, 1, 1),
                                                         .groups = r.args.whole(3, 1, 1),
                                                         .activation = r.args.activation(4)});
        }}},
      {"GhostBottleneck",
       {"models.common.GhostBottleneck",
        {"channels", "kernel", "stride"},
        [](const Row& r) {
          return std::make_unique<GhostBottleneck>(r.builder, r.c1, r.c2, r.args.pair(1, 3, 1), r.args.whole(2, 1, 1, 2));
        }}},
  };
  return table;
}

/// Modules that keep the number of channels and take their arguments as written.
struct Plain {
  const char* type;
  std::vector<std::string> arguments;
  Make make;
};

std::unique_ptr<Module> make_upsample(const Row& r) {
  const RowArgs& a = r.args;
  const std::string mode = a.none(2) ? "nearest" : a.text(2, "nearest");
  if (mode != "nearest" && mode != "bilinear") a.refuse(2, "nearest or bilinear");
  const bool corners = !a.none(3) && a.flag(3, false);
  if (mode == "nearest" && a.present(3) && !a.none(3)) a.refuse(3, "None, as the mode is nearest");
  const ResizeMode kind = mode == "nearest" ? ResizeMode::nearest
                          : corners         ? ResizeMode::bilinear_corners
                                            : ResizeMode::bilinear;
  const bool sized = a.present(0) && !a.none(0), scaled = a.present(1) && !a.none(1);
  FROST_CHECK(sized != scaled, a.where(), ": expected a size or a scale_factor, got ", sized ? "both" : "neither");
  const Pair sides = sized ? a.pair(0, 1, 1) : a.pair(1, 1, 1);
  if (sized) return std::make_unique<Upsample>(Upsample::To{sides.h, sides.w}, kind);
  return std::make_unique<Upsample>(Upsample::By{sides.h, sides.w}, kind);
}

std::unique_ptr<Module> make_max_pool(const Row& r) {
  const RowArgs& a = r.args;
  constexpr int kMost = PoolGeometry::kLargest;
  const int kernel = a.square(0, {}, 1, kMost), stride = a.none(1) ? kernel : a.square(1, kernel, 1);
  const int pad = a.square(2, 0, 0, kMost / 2);
  a.only(3, a.square(3, 1, 1) == 1, "1");
  a.only(4, !a.flag(4, false), "False");
  return std::make_unique<MaxPool2d>(PoolGeometry{kernel, stride, pad, a.flag(5, false)});
}

std::unique_ptr<Module> make_avg_pool(const Row& r) {
  const RowArgs& a = r.args;
  const int kernel = a.square(0, {}, 1);
  a.only(1, a.none(1) || a.square(1, kernel, 1) == kernel, "the kernel's size");
  a.only(2, a.square(2, 0, 0) == 0, "0");
  a.only(3, !a.flag(3, false), "False");
  a.flag(4, true);  // count_include_pad: there is no padding
  a.only(5, a.none(5), "None");
  return std::make_unique<AvgPool2d>(kernel);
}

std::unique_ptr<Module> make_zero_pad(const Row& r) {
  const RowArgs& a = r.args;
  if (a.whole_number(0)) {
    const int all = a.whole(0, 0, 0);
    return std::make_unique<ZeroPad2d>(all, all, all, all);
  }
  const std::vector<int> p = a.whole_list(0, {}, 0);
  if (p.size() != 4) a.refuse(0, "a whole number or a list [left, right, top, bottom]");
  return std::make_unique<ZeroPad2d>(p[0], p[1], p[2], p[3]);
}

/// v7.0 puts the input's channels here whatever the row says; a row that says something else meant another network.
std::unique_ptr<Module> make_norm(const Row& r) {
  if (r.args.present(0)) {
    const std::int64_t said = r.args.whole(0, std::int64_t{1}, GraphBudget::kChannels);
    if (said != r.c1 && r.scaled(said) != r.c1) r.args.refuse(0, fmt::format("the input's channels, {}", r.c1));
  }
  return r.builder.norm(r.c1);
}

template <ActivationKind kind>
std::unique_ptr<Module> make_activation(const Row& r) {
  const bool leaky = kind == ActivationKind::leaky_relu;
  if (kind != ActivationKind::sigmoid) r.args.flag(leaky ? 1 : 0, false);  // inplace: the same values
  return std::make_unique<Activate>(leaky ? Activation{kind, r.args.real(0, 0.01f)} : Activation{kind});
}

std::unique_ptr<Module> make_sequential(const Row& r);

const std::map<std::string, Plain>& plain_modules() {
  using enum ActivationKind;
  static const std::map<std::string, Plain> table = {
      {"nn.Upsample",
       {"torch.nn.modules.upsampling.Upsample", {"size", "scale_factor", "mode", "align_corners"}, make_upsample}},
      {"nn.MaxPool2d",
       {"torch.nn.modules.pooling.MaxPool2d",
        {"kernel_size", "stride", "padding", "dilation", "return_indices", "ceil_mode"},
        make_max_pool}},
      {"nn.AvgPool2d",
       {"torch.nn.modules.pooling.AvgPool2d",
        {"kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override"},
        make_avg_pool}},
      {"nn.ZeroPad2d", {"torch.nn.modules.padding.ZeroPad2d", {"padding"}, make_zero_pad}},
      {"nn.BatchNorm2d", {"torch.nn.modules.batchnorm.BatchNorm2d", {"num_features"}, make_norm}},
      {"nn.SiLU", {"torch.nn.modules.activation.SiLU", {"inplace"}, make_activation<silu>}},
      {"nn.ReLU", {"torch.nn.modules.activation.ReLU", {"inplace"}, make_activation<relu>}},
      {"nn.LeakyReLU",
       {"torch.nn.modules.activation.LeakyReLU", {"negative_slope", "inplace"}, make_activation<leaky_relu>}},
      {"nn.Hardswish", {"torch.nn.modules.activation.Hardswish", {"inplace"}, make_activation<hardswish>}},
      {"nn.Mish", {"torch.nn.modules.activation.Mish", {"inplace"}, make_activation<mish>}},
      {"nn.Sigmoid", {"torch.nn.modules.activation.Sigmoid", {}, make_activation<sigmoid>}},
      {"nn.Identity",
       {"torch.nn.modules.linear.Identity",
        {},
        [](const Row&) -> std::unique_ptr<Module> { return std::make_unique<Identity>(); }}},
      {"nn.Sequential", {"torch.nn.modules.container.Sequential", std::vector<std::string>(32, "module"), make_sequential}},
  };
  return table;
}

/// A row [-1, 1, nn.Sequential, ['nn.MaxPool2d(3, 1, 1)', nn.ReLU()]]: each argument is a module that keeps its channels.
std::unique_ptr<Module> make_sequential(const Row& r) {
  auto chain = std::make_unique<Sequential>();
  for (std::size_t i = 0; i < r.args.size(); ++i) {
    const std::string call = r.args.text(i, "");
    const auto open = call.find('(');
    const auto plain = plain_modules().find(call.substr(0, open));
    if (open == std::string::npos || !call.ends_with(')') || plain == plain_modules().end() ||
        plain->first == "nn.Sequential") {  // one in another: each level would read all below it again
      std::string names;
      for (const auto& [name, module] : plain_modules())
        if (name != "nn.Sequential") names += (names.empty() ? "" : ", ") + name;
      r.args.refuse(i, "one of " + names + " with its arguments in parentheses");
    }
    LayerSpec one;
    one.module = plain->first;
    auto arguments = parse_call(call.substr(open + 1, call.size() - open - 2), plain->second.arguments);
    if (!arguments) r.args.refuse(i, "a module with its arguments");
    one.args = std::move(*arguments);
    r.builder.budget.spend_module(r.builder.where);
    chain->append(
        plain->second.make({r.builder, RowArgs(r.args.at(i), r.args.spec(), one, plain->second.arguments), r.c1, r.c1, 1}));
  }
  if (r.args.size() == 0) chain->append(std::make_unique<Identity>());
  return chain;
}

std::vector<std::string> known_modules() {
  std::vector<std::string> names{"Concat", "Detect", "nn.Conv2d"};
  for (const auto& [name, block] : blocks()) names.push_back(name);
  for (const auto& [name, plain] : plain_modules()) names.push_back(name);
  return names;
}

std::vector<std::vector<float>> level_anchors(const ModelSpec& spec, std::size_t levels) {
  if (!spec.anchors_each) return spec.anchors;
  std::vector<float> placeholder(static_cast<std::size_t>(spec.anchors_each) * 2);
  std::iota(placeholder.begin(), placeholder.end(), 0.0f);
  return std::vector<std::vector<float>>(levels, placeholder);
}

/// `number` modules one after the other, as YOLOv5 repeats a row: all with the same arguments.
std::unique_ptr<Module> repeated(const BlockBuilder& builder, int number,
                                 const std::function<std::unique_ptr<Module>()>& make) {
  const auto one = [&] {
    builder.budget.spend_module(builder.where);
    return make();
  };
  if (number == 1) return one();
  auto chain = std::make_unique<Sequential>();
  for (int i = 0; i < number; ++i) chain->append(one());
  return chain;
}

BuiltLayer build_block(const BlockBuilder& builder, const ModelSpec& spec, const LayerSpec& layer, const Block& block,
                       std::int64_t c1) {
  const RowArgs args(spec, layer, block.arguments);
  const std::int64_t c2 = builder.checked(scaled_channels(spec, args.whole(0, std::int64_t{1}, GraphBudget::kChannels)));
  const int repeats = block.repeats_inside ? 1 : layer.number;
  FROST_CHECK(repeats == 1 || c1 == c2, args.where(), ": ", repeats, " repeats need equal input and output channels, got ",
              c1, " and ", c2);
  std::vector<std::string> head{std::to_string(c1), std::to_string(c2)};
  if (block.repeats_inside) head.push_back(std::to_string(layer.number));
  return {.module = repeated(builder, repeats,
                             [&] {
                               return block.make({builder, args, c1, c2, layer.number});
                             }),
          .channels = c2,
          .printed_number = layer.number,
          .type = block.type,
          .arguments = args.printed(std::move(head), 1)};
}

BuiltLayer build_plain(const BlockBuilder& builder, const ModelSpec& spec, const LayerSpec& layer, const Plain& plain,
                       std::int64_t c) {
  const RowArgs args(spec, layer, plain.arguments);
  return {.module = repeated(builder, layer.number,
                             [&] {
                               return plain.make({builder, args, c, c, layer.number});
                             }),
          .channels = c,
          .printed_number = layer.number,
          .type = plain.type,
          .arguments = layer.module == "nn.BatchNorm2d" ? fmt::format("[{}]", c) : args.printed({}, 0)};
}

/// 'same' keeps the size, which only strides of 1 can; 'valid' is none.
Pair conv2d_padding(const RowArgs& args, std::size_t i, Pair kernel, Pair stride, Pair dilation) {
  if (args.text_is(i, "valid")) return 0;
  if (!args.text_is(i, "same")) return args.pair(i, 0, 0);
  const Pair total{dilation.h * (kernel.h - 1), dilation.w * (kernel.w - 1)};
  if (stride.h != 1 || stride.w != 1 || total.h % 2 || total.w % 2)
    args.refuse(i, "numbers: same needs a stride of 1 and an odd kernel");
  return {total.h / 2, total.w / 2};
}

/// v1.0 to v3.1, and projects that came from them, scale an nn.Conv2d's channels as a Conv's; v7.0 hands the row to PyTorch
/// as it is, (in, out, kernel, ...), and takes the output for as wide as the input. The second form is one that only works
/// where both say the input's channels.
BuiltLayer build_conv2d(const BlockBuilder& builder, const ModelSpec& spec, const LayerSpec& layer, std::int64_t c1) {
  const std::vector<std::string> names{"kernel_size", "stride", "padding", "dilation", "groups", "bias", "padding_mode"};
  const auto with = [&](std::vector<std::string> first) {
    first.insert(first.end(), names.begin(), names.end());
    return RowArgs(spec, layer, first);
  };
  const auto number = [&](std::size_t i) {
    return i < layer.args.size() && layer.args[i].IsScalar() ? layer.args[i].as<std::int64_t>(0) : 0;
  };
  const bool as_written = layer.args.size() > 2 && number(0) == c1 && number(1) >= 8 && number(1) % 8 == 0;
  const RowArgs args = as_written ? with({"in_channels", "out_channels"}) : with({"channels"});
  if (as_written && number(1) != c1)
    args.refuse(1, fmt::format("{}: YOLOv5 takes such a row's output for as wide as its input", c1));
  const std::size_t k = as_written ? 2 : 1;
  if (!args.present(k)) args.refuse(k, "a whole number or a list of two");
  const std::int64_t c2 =
      as_written ? c1 : builder.checked(scaled_channels(spec, args.whole(0, std::int64_t{1}, GraphBudget::kChannels)));
  const Pair kernel = args.pair(k, 1, 1), stride = args.pair(k + 1, 1, 1), dilation = args.pair(k + 3, 1, 1);
  const ConvOptions options{.kernel = kernel,
                            .stride = stride,
                            .padding = conv2d_padding(args, k + 2, kernel, stride, dilation),
                            .groups = args.whole(k + 4, 1, 1),
                            .dilation = dilation};
  const bool bias = args.flag(k + 5, true);
  args.only(k + 6, args.text_is(k + 6, "zeros"), "zeros");
  FROST_CHECK(layer.number == 1 || c1 == c2, args.where(), ": ", layer.number,
              " repeats need equal input and output channels, got ", c1, " and ", c2);
  return {.module = repeated(builder, layer.number, [&] { return builder.plain_conv(c1, c2, options.geometry(), bias); }),
          .channels = c2,
          .printed_number = layer.number,
          .type = "torch.nn.modules.conv.Conv2d",
          .arguments = args.printed({std::to_string(c1), std::to_string(c2)}, k)};
}

BuiltLayer build_concat(const BlockBuilder& builder, const ModelSpec& spec, const LayerSpec& layer,
                        const std::vector<std::int64_t>& inputs) {
  const RowArgs args(spec, layer, {"dimension"});
  if (args.present(0) && !args.text_is(0, "1") && !args.text_is(0, "-3")) args.refuse(0, "1: only channels can be joined");
  FROST_CHECK(layer.number == 1, args.where(), ": cannot be repeated");
  std::int64_t sum = 0;
  for (const std::int64_t c : inputs) sum = builder.checked(sum + c);
  return {.module = repeated(builder, 1, [] { return std::make_unique<Concat>(); }),
          .channels = sum,
          .printed_number = layer.number,
          .type = "models.common.Concat",
          .arguments = args.printed({}, 0)};
}

BuiltLayer build_detect(const BlockBuilder& builder, const ModelSpec& spec, const LayerSpec& layer,
                        const std::vector<std::int64_t>& inputs) {
  const RowArgs args(spec, layer, {"nc", "anchors"});
  FROST_CHECK(layer.number == 1, args.where(), ": cannot be repeated");
  if (!args.text_is(0, "nc") && args.whole(0, std::int64_t{1}, std::int64_t{1} << 20) != spec.classes)
    args.refuse(0, fmt::format("nc, which is {}", spec.classes));
  if (!args.text_is(1, "anchors")) args.refuse(1, "the word anchors: their values stand under that key");
  const auto anchors = level_anchors(spec, inputs.size());
  FROST_CHECK(anchors.size() == inputs.size(), args.where(), ": ", inputs.size(), " inputs but anchors for ", anchors.size(),
              " levels");
  const std::int64_t outputs = builder.checked(static_cast<std::int64_t>(spec.anchor_count()) * (spec.classes + 5));
  for (const std::int64_t c : inputs) {
    builder.budget.spend_module(builder.where);
    builder.budget.spend_parameters(builder.where, static_cast<double>(builder.checked(c)) * static_cast<double>(outputs));
  }
  std::vector<std::string> levels;
  for (const auto& level : anchors) levels.push_back(fmt::format("[{}]", fmt::join(level, ", ")));
  return {.module = std::make_unique<Detect>(builder.device, spec.classes, anchors, inputs),
          .channels = 0,
          .printed_number = layer.number,
          .type = "models.yolo.Detect",
          .arguments = fmt::format("[{}, [{}], [{}]]", spec.classes, fmt::join(levels, ", "), fmt::join(inputs, ", "))};
}

}  // namespace

std::string module_hint(const std::string& module) {
  static const std::set<std::string> segmentation{"Segment", "Proto"};
  static const std::set<std::string> yolov5{"C3SPP",
                                            "C3TR",
                                            "C3x",
                                            "Classify",
                                            "Contract",
                                            "CrossConv",
                                            "Expand",
                                            "MixConv2d",
                                            "DWConvTranspose2d",
                                            "TransformerBlock",
                                            "TransformerLayer",
                                            "nn.ConvTranspose2d"};
  static const std::set<std::string> ultralytics{"A2C2f",
                                                 "ADown",
                                                 "AConv",
                                                 "AIFI",
                                                 "C1",
                                                 "C2",
                                                 "C2PSA",
                                                 "C2f",
                                                 "C2fAttn",
                                                 "C2fCIB",
                                                 "C2fPSA",
                                                 "C3k",
                                                 "C3k2",
                                                 "CBFuse",
                                                 "CBLinear",
                                                 "CIB",
                                                 "Conv2",
                                                 "ELAN1",
                                                 "HGBlock",
                                                 "HGStem",
                                                 "LRPCHead",
                                                 "Index",
                                                 "OBB",
                                                 "PSA",
                                                 "Pose",
                                                 "RTDETRDecoder",
                                                 "RepC3",
                                                 "RepNCSPELAN4",
                                                 "ResNetLayer",
                                                 "SCDown",
                                                 "SPPELAN",
                                                 "TorchVision",
                                                 "WorldDetect",
                                                 "YOLOEDetect",
                                                 "YOLOESegment",
                                                 "v10Detect",
                                                 "ImagePoolingAttn"};
  if (segmentation.contains(module)) return ": segmentation is not supported";
  if (yolov5.contains(module)) return ": a module of YOLOv5 that frost does not support";
  if (ultralytics.contains(module)) return ": models of the ultralytics package (v8 and later) are not read";
  return "";
}

void check_module_name(const std::string& file, int layer, const std::string& module) {
  const std::vector<std::string> known = known_modules();
  if (std::ranges::find(known, module) != known.end()) return;
  fail(file, ": layer ", layer, ": unknown module '", module.substr(0, 60), "'", module_hint(module),
       " (known: ", fmt::format("{}", fmt::join(known, ", ")), ")");
}

BuiltLayer build_layer(const BlockBuilder& given, const ModelSpec& spec, const LayerSpec& layer,
                       const std::vector<std::int64_t>& inputs) {
  check_module_name(spec.name, layer.index, layer.module);
  BlockBuilder builder = given;
  builder.activation = spec.activation;
  builder.csp_activation = spec.csp_activation;
  builder.where = fmt::format("{}: layer {} ({})", spec.name, layer.index, layer.module);
  if (layer.module == "Concat") return build_concat(builder, spec, layer, inputs);
  if (layer.module == "Detect") return build_detect(builder, spec, layer, inputs);
  FROST_CHECK(inputs.size() == 1, builder.where, ": takes one input, 'from' lists ", inputs.size());
  if (const auto block = blocks().find(layer.module); block != blocks().end())
    return build_block(builder, spec, layer, block->second, inputs[0]);
  if (layer.module == "nn.Conv2d") return build_conv2d(builder, spec, layer, inputs[0]);
  return build_plain(builder, spec, layer, plain_modules().at(layer.module), inputs[0]);
}

}  // namespace frost
