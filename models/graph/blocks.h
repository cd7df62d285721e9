#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/nn/layers.h"

namespace frost {

/// Rows and columns; one number means both.
struct Pair {
  int h, w;
  Pair(int both) : h(both), w(both) {}
  Pair(int h, int w) : h(h), w(w) {}
};

/// How large one graph may be, all of its rows together: a file of a few kB must not take hours or all memory. YOLOv5x6,
/// the largest of YOLOv5's own, has 141 million parameters in 196 modules.
class GraphBudget {
 public:
  static constexpr std::int64_t kChannels = 1 << 20;    // of one convolution, norm or concatenation
  static constexpr std::int64_t kParameters = 1 << 28;  // 1 GiB of f32
  static constexpr std::int64_t kModules = 4096;
  static constexpr double kMultiplyAdds = 0x1p40;  // of an image of 256 x 256: 65 times YOLOv5x6's
  // Of that image's forward pass in f32, which also bounds what its activations take.
  static constexpr double kBytes = 0x1p36;         // that operators read and write
  static constexpr double kWindowValues = 0x1p34;  // that max pools compare
  static constexpr int kInputs = 1 << 14;          // entries of all rows' `from`

  void spend_module(const std::string& where);
  void spend_parameters(const std::string& where, double count);

 private:
  std::int64_t modules_ = 0;
  double parameters_ = 0;
};

/// Arguments of YOLOv5's Conv besides its channels (docs/spec/model.md section 3.1).
struct ConvOptions {
  Pair kernel = 1, stride = 1;
  std::optional<Pair> padding{};  // none: half of what the kernel covers
  std::int64_t groups = 1;
  Pair dilation = 1;
  std::optional<Activation> activation{};  // none: the graph's default

  ConvGeometry geometry() const;
};

/// What every block needs to be built. Each convolution and norm is made here, so channels and budget are checked here
/// before they are used.
struct BlockBuilder {
  Device& device;
  GraphBudget& budget;
  Activation activation{ActivationKind::silu};      // the graph's default
  Activation csp_activation{ActivationKind::silu};  // of a BottleneckCSP's own norm
  std::string where{};                              // the row, for messages

  /// Convolution, batch norm, activation.
  std::unique_ptr<ConvNormAct> conv(std::int64_t c1, std::int64_t c2, const ConvOptions& options = {}) const;
  std::unique_ptr<Conv2d> plain_conv(std::int64_t c1, std::int64_t c2, const ConvGeometry& geometry, bool bias) const;
  std::unique_ptr<BatchNorm2d> norm(std::int64_t channels) const;
  /// A block's inner width: c2 * e, rounded down.
  std::int64_t hidden(std::int64_t c2, double e) const;
  /// Refuses a number of channels that is not 1 to GraphBudget::kChannels.
  std::int64_t checked(std::int64_t channels) const;

 private:
  void spend_conv(std::int64_t c1, std::int64_t c2, const ConvGeometry& geometry) const;
  void spend_norm(std::int64_t channels) const;
};

// Blocks of docs/spec/model.md section 3.2. Children carry the state dict's names. Each forward reads like the block's
// diagram. It takes widths from its convolutions, because pruned ones are narrower than built.

/// y = cv2(cv1(x)) [+ x]
class Bottleneck : public Module {
 public:
  Bottleneck(const BlockBuilder&, std::int64_t c1, std::int64_t c2, bool shortcut, int groups, double e);
  std::string torch_class() const override { return "Bottleneck"; }
  Var forward(Context& context, const Var& x, const Output& output = {}) override;

  bool add;  // [+ x]

 private:
  ConvNormAct &cv1_, &cv2_;
};

/// y = cv3([m(cv1(x)), cv2(x)]), m a chain of n bottlenecks (or of another module of equal width).
class C3 : public Module {
 public:
  C3(const BlockBuilder&, std::int64_t c1, std::int64_t c2, int n, bool shortcut, int groups, double e);
  std::string torch_class() const override { return "C3"; }
  Var forward(Context& context, const Var& x, const Output& output = {}) override;

 protected:
  C3(const BlockBuilder&, std::int64_t c1, std::int64_t c2, std::int64_t hidden, std::unique_ptr<Sequential> m);

 private:
  ConvNormAct &cv1_, &cv2_, &cv3_;
  Sequential& m_;
};

/// C3 with GhostBottlenecks.
class C3Ghost : public C3 {
 public:
  C3Ghost(const BlockBuilder&, std::int64_t c1, std::int64_t c2, int n, double e);
  std::string torch_class() const override { return "C3Ghost"; }
};

/// y = cv4(act(bn([cv3(m(cv1(x))), cv2(x)]))), cv2 and cv3 plain convolutions: the CSP block before C3.
class BottleneckCSP : public Module {
 public:
  BottleneckCSP(const BlockBuilder&, std::int64_t c1, std::int64_t c2, int n, bool shortcut, int groups, double e);
  std::string torch_class() const override { return "BottleneckCSP"; }
  Var forward(Context& context, const Var& x, const Output& output = {}) override;

  Activation activation;

 private:
  BottleneckCSP(const BlockBuilder&, std::int64_t c1, std::int64_t c2, std::int64_t hidden, std::unique_ptr<Sequential> m);
  ConvNormAct& cv1_;
  Conv2d &cv2_, &cv3_;
  ConvNormAct& cv4_;
  BatchNorm2d& bn_;
  Sequential& m_;
};

/// y = cv2([x', pool5(x'), pool9(x'), pool13(x')]), x' = cv1(x)
class SPP : public Module {
 public:
  SPP(const BlockBuilder&, std::int64_t c1, std::int64_t c2, const std::vector<int>& kernels);
  std::string torch_class() const override { return "SPP"; }
  Var forward(Context& context, const Var& x, const Output& output = {}) override;

 private:
  ConvNormAct &cv1_, &cv2_;
  std::vector<MaxPool2d*> pools_;
};

/// SPP with one pool of size k applied three times: the same values, less work.
class SPPF : public Module {
 public:
  SPPF(const BlockBuilder&, std::int64_t c1, std::int64_t c2, int k);
  std::string torch_class() const override { return "SPPF"; }
  Var forward(Context& context, const Var& x, const Output& output = {}) override;

 private:
  ConvNormAct &cv1_, &cv2_;
  MaxPool2d& m_;
};

/// Pixels of each 2x2 cell into channels, then a convolution.
class Focus : public Module {
 public:
  Focus(const BlockBuilder&, std::int64_t c1, std::int64_t c2, const ConvOptions& options);
  std::string torch_class() const override { return "Focus"; }
  Var forward(Context& context, const Var& x, const Output& output = {}) override;

 private:
  ConvNormAct& conv_;
};

/// Half of the channels by a convolution, the other half by a cheap depthwise one of it.
class GhostConv : public Module {
 public:
  GhostConv(const BlockBuilder&, std::int64_t c1, std::int64_t c2, const ConvOptions& options);
  std::string torch_class() const override { return "GhostConv"; }
  Var forward(Context& context, const Var& x, const Output& output = {}) override;

 private:
  ConvNormAct &cv1_, &cv2_;
};

class GhostBottleneck : public Module {
 public:
  GhostBottleneck(const BlockBuilder&, std::int64_t c1, std::int64_t c2, Pair k, int s);
  std::string torch_class() const override { return "GhostBottleneck"; }
  Var forward(Context& context, const Var& x, const Output& output = {}) override;

 private:
  Sequential& conv_;
  Module* shortcut_;  // null: identity
};

/// The identity, where a state dict counts a position without parameters.
class Identity : public Module {
 public:
  std::string torch_class() const override { return "Identity"; }
  Var forward(Context&, const Var& x, const Output& = {}) override { return x; }
};

}  // namespace frost
