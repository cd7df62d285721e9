#include "models/classify/inception_v3.h"

#include <fmt/format.h>

#include <numeric>

namespace frost::classify {
namespace {

constexpr PoolGeometry kHalving{.kernel = 3, .stride = 2}, kMean{.kernel = 3, .stride = 1, .pad = 1};

struct Conv {
  std::string name;
  std::int64_t out;
  int kernel_h = 1, kernel_w = 1, stride = 1;
  bool padded = true;  // by half of the kernel
};
Conv square_conv(std::string name, std::int64_t out, int kernel) { return {std::move(name), out, kernel, kernel}; }
Conv halving(std::string name, std::int64_t out) { return {std::move(name), out, 3, 3, 2, false}; }
Conv row(std::string name, std::int64_t out, int kernel) { return {std::move(name), out, 1, kernel}; }
Conv column(std::string name, std::int64_t out, int kernel) { return {std::move(name), out, kernel, 1}; }

std::unique_ptr<ConvNormAct> block(Device& device, std::int64_t in, const Conv& c) {
  const ConvGeometry geometry{.kernel_h = c.kernel_h,
                              .kernel_w = c.kernel_w,
                              .stride_h = c.stride,
                              .stride_w = c.stride,
                              .pad_h = c.padded ? c.kernel_h / 2 : 0,
                              .pad_w = c.padded ? c.kernel_w / 2 : 0};
  return std::make_unique<ConvNormAct>(device, in, c.out, geometry, Activation{ActivationKind::relu},
                                       ConvNormSettings{.eps = 1e-3f, .momentum = 0.1f, .torch_class = ""});
}

/// A branch of a block: a pool, then convolutions one after the other, then perhaps two side by side.
struct Branch {
  enum class Pool { none, mean, maximum } pool = Pool::none;
  std::vector<Conv> chain, ends = {};
};
using Branches = std::vector<Branch>;

Branch mean_branch(std::int64_t out) { return {Branch::Pool::mean, {{"branch_pool", out}}}; }
const Branch kMaximum{Branch::Pool::maximum, {}};

Branches block_a(std::int64_t pooled) {
  return {{.chain = {{"branch1x1", 64}}},
          {.chain = {{"branch5x5_1", 48}, square_conv("branch5x5_2", 64, 5)}},
          {.chain = {{"branch3x3dbl_1", 64}, square_conv("branch3x3dbl_2", 96, 3), square_conv("branch3x3dbl_3", 96, 3)}},
          mean_branch(pooled)};
}
Branches block_b() {
  return {{.chain = {halving("branch3x3", 384)}},
          {.chain = {{"branch3x3dbl_1", 64}, square_conv("branch3x3dbl_2", 96, 3), halving("branch3x3dbl_3", 96)}},
          kMaximum};
}
Branches block_c(std::int64_t width) {
  return {{.chain = {{"branch1x1", 192}}},
          {.chain = {{"branch7x7_1", width}, row("branch7x7_2", width, 7), column("branch7x7_3", 192, 7)}},
          {.chain = {{"branch7x7dbl_1", width},
                     column("branch7x7dbl_2", width, 7),
                     row("branch7x7dbl_3", width, 7),
                     column("branch7x7dbl_4", width, 7),
                     row("branch7x7dbl_5", 192, 7)}},
          mean_branch(192)};
}
Branches block_d() {
  return {{.chain = {{"branch3x3_1", 192}, halving("branch3x3_2", 320)}},
          {.chain = {{"branch7x7x3_1", 192},
                     row("branch7x7x3_2", 192, 7),
                     column("branch7x7x3_3", 192, 7),
                     halving("branch7x7x3_4", 192)}},
          kMaximum};
}
Branches block_e() {
  return {{.chain = {{"branch1x1", 320}}},
          {.chain = {{"branch3x3_1", 384}}, .ends = {row("branch3x3_2a", 384, 3), column("branch3x3_2b", 384, 3)}},
          {.chain = {{"branch3x3dbl_1", 448}, square_conv("branch3x3dbl_2", 384, 3)},
           .ends = {row("branch3x3dbl_3a", 384, 3), column("branch3x3dbl_3b", 384, 3)}},
          mean_branch(192)};
}

}  // namespace

/// The branches read the same map; their results lie side by side.
class MixedBlock : public Module {
 public:
  MixedBlock(Device& device, std::int64_t in, const Branches& branches) {
    for (const Branch& branch : branches) {
      Built built{branch.pool, {}, {}};
      std::int64_t channels = in;
      const auto add = [&](const Conv& c) {
        halves_ |= c.stride > 1;
        return &add_child(c.name, block(device, channels, c));
      };
      for (const Conv& c : branch.chain) built.chain.push_back(add(c)), channels = c.out;
      for (const Conv& c : branch.ends) built.ends.push_back(add(c));
      branches_.push_back(std::move(built));
    }
  }
  Var forward(Context& context, const Var& x, const Output& = {}) override {
    const Device::ScopeGuard scope(context.device, name());
    Concatenation joined(context, halves_ ? kHalving.output(x.shape()) : x.shape(), widths(x.shape().c));
    std::vector<Var> parts;
    const auto place = [&] { return joined.output(parts.size()); };
    for (const Built& branch : branches_) {
      if (branch.pool == Branch::Pool::maximum) {
        parts.push_back(max_pool(context, x, kHalving, place()));
        continue;
      }
      Var y = branch.pool == Branch::Pool::mean ? average_pool(context, x, kMean) : x;
      for (ConvNormAct* conv : branch.chain)
        y = conv->forward(context, y, conv == branch.chain.back() && branch.ends.empty() ? place() : Output{});
      if (branch.ends.empty()) parts.push_back(y);
      for (ConvNormAct* end : branch.ends) parts.push_back(end->forward(context, y, place()));
    }
    return joined.join(parts);
  }
  /// Of the parts, for an input of `in` channels: as the convolutions are now, since filters may have been pruned.
  std::vector<std::int64_t> widths(std::int64_t in) const {
    std::vector<std::int64_t> parts;
    for (const Built& branch : branches_) {
      if (branch.ends.empty()) parts.push_back(branch.chain.empty() ? in : branch.chain.back()->conv.out);
      for (const ConvNormAct* end : branch.ends) parts.push_back(end->conv.out);
    }
    return parts;
  }

 private:
  struct Built {
    Branch::Pool pool;
    std::vector<ConvNormAct*> chain, ends;
  };
  std::vector<Built> branches_;
  bool halves_ = false;
};

InceptionV3::InceptionV3(Device& device, int classes, Seed seed) : Classifier("inception_v3") {
  LayerNames layers{.prefixes = {}, .backbone = 16};
  std::int64_t channels = 3;
  for (const Conv& c :
       {Conv{"Conv2d_1a_3x3", 32, 3, 3, 2, false}, Conv{"Conv2d_2a_3x3", 32, 3, 3, 1, false},
        Conv{"Conv2d_2b_3x3", 64, 3, 3}, Conv{"Conv2d_3b_1x1", 80}, Conv{"Conv2d_4a_3x3", 192, 3, 3, 1, false}}) {
    stem_.push_back(&add_child(c.name, block(device, channels, c)));
    layers.prefixes.push_back({c.name + "."});
    channels = c.out;
  }
  for (const auto& [name, branches] : std::vector<std::pair<const char*, Branches>>{{"5b", block_a(32)},
                                                                                    {"5c", block_a(64)},
                                                                                    {"5d", block_a(64)},
                                                                                    {"6a", block_b()},
                                                                                    {"6b", block_c(128)},
                                                                                    {"6c", block_c(160)},
                                                                                    {"6d", block_c(160)},
                                                                                    {"6e", block_c(192)},
                                                                                    {"7a", block_d()},
                                                                                    {"7b", block_e()},
                                                                                    {"7c", block_e()}}) {
    const std::string full = fmt::format("Mixed_{}", name);
    blocks_.push_back(&add_child(full, std::make_unique<MixedBlock>(device, channels, branches)));
    layers.prefixes.push_back({full + "."});
    const std::vector<std::int64_t> widths = blocks_.back()->widths(channels);
    channels = std::accumulate(widths.begin(), widths.end(), std::int64_t{0});
  }
  dropout_ = &add_child("dropout", std::make_unique<DropoutLayer>(0.5f));
  fc_ = &add_child("fc", std::make_unique<Linear>(device, channels, classes));
  layers.prefixes.push_back({"fc."});
  finish(std::move(layers));
  if (seed) draw_weights(Rng(*seed));
}

void InceptionV3::draw_weights(Rng rng) {  // torchvision: normal, std 0.1
  walk([&](const std::string&, Module& module) {
    if (auto* conv = dynamic_cast<Conv2d*>(&module)) initialise_normal(*conv, rng, 0.1);
  });
  fc_->initialise_normal(rng, 0.1);
}

Var InceptionV3::forward(Context& context, const Var& x, const Output&) {
  Var y = x;
  for (std::size_t i = 0; i < stem_.size(); ++i) {
    const Device::ScopeGuard scope(context.device, stem_[i]->name());
    y = stem_[i]->forward(context, y);
    if (i == 2 || i == 4) y = max_pool(context, y, kHalving);
  }
  for (MixedBlock* block : blocks_) y = block->forward(context, y);
  return fc_->forward(context, dropout_->forward(context, average_pool(context, y, 1, 1)));
}

}  // namespace frost::classify
