#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "engine/nn/layers.h"

namespace frost {

/// What every block needs to be built.
struct BlockBuilder {
  Device& device;
  Activation activation{ActivationKind::silu};  // the graph's default

  /// YOLOv5's Conv: kernel k, stride s, padding k / 2 unless given, then batch norm and activation (spec/model.md 3.1).
  std::unique_ptr<ConvNormAct> conv(std::int64_t c1, std::int64_t c2, int k = 1, int s = 1, int p = -1, int groups = 1,
                                    bool act = true) const;
};

// Blocks of spec/model.md section 3.2. Children carry the state dict's names. Each forward is the block's picture; it asks
// its convolutions how wide they are, since pruned ones are narrower than they were built.

/// y = cv2(cv1(x)) [+ x]
class Bottleneck : public Module {
 public:
  Bottleneck(const BlockBuilder&, std::int64_t c1, std::int64_t c2, bool shortcut = true, int groups = 1, double e = 0.5);
  Var forward(Context& context, const Var& x, const Place& place = {}) override;

 private:
  ConvNormAct &cv1_, &cv2_;
  bool add_;
};

/// y = cv3([m(cv1(x)), cv2(x)]), m a chain of n bottlenecks (or of another module of equal width).
class C3 : public Module {
 public:
  C3(const BlockBuilder&, std::int64_t c1, std::int64_t c2, int n = 1, bool shortcut = true, int groups = 1, double e = 0.5);
  Var forward(Context& context, const Var& x, const Place& place = {}) override;

 protected:
  C3(const BlockBuilder&, std::int64_t c1, std::int64_t c2, std::int64_t hidden, std::unique_ptr<Sequential> m);

 private:
  ConvNormAct &cv1_, &cv2_, &cv3_;
  Sequential& m_;
};

/// C3 with GhostBottlenecks.
class C3Ghost : public C3 {
 public:
  C3Ghost(const BlockBuilder&, std::int64_t c1, std::int64_t c2, int n = 1, double e = 0.5);
};

/// y = cv4(act(bn([cv3(m(cv1(x))), cv2(x)]))), cv2 and cv3 plain convolutions: the CSP block before C3.
class BottleneckCSP : public Module {
 public:
  BottleneckCSP(const BlockBuilder&, std::int64_t c1, std::int64_t c2, int n = 1, bool shortcut = true, int groups = 1,
                double e = 0.5);
  Var forward(Context& context, const Var& x, const Place& place = {}) override;

 private:
  BottleneckCSP(const BlockBuilder&, std::int64_t c1, std::int64_t c2, std::int64_t hidden, std::unique_ptr<Sequential> m);
  ConvNormAct& cv1_;
  Conv2d &cv2_, &cv3_;
  ConvNormAct& cv4_;
  BatchNorm2d& bn_;
  Sequential& m_;
  Activation activation_;
};

/// y = cv2([x', pool5(x'), pool9(x'), pool13(x')]), x' = cv1(x)
class SPP : public Module {
 public:
  SPP(const BlockBuilder&, std::int64_t c1, std::int64_t c2, const std::vector<int>& kernels = {5, 9, 13});
  Var forward(Context& context, const Var& x, const Place& place = {}) override;

 private:
  ConvNormAct &cv1_, &cv2_;
  std::vector<MaxPool2d*> pools_;
};

/// SPP with one pool of size k applied three times: the same values, less work.
class SPPF : public Module {
 public:
  SPPF(const BlockBuilder&, std::int64_t c1, std::int64_t c2, int k = 5);
  Var forward(Context& context, const Var& x, const Place& place = {}) override;

 private:
  ConvNormAct &cv1_, &cv2_;
  MaxPool2d& m_;
};

/// Pixels of each 2x2 cell into channels, then a convolution.
class Focus : public Module {
 public:
  Focus(const BlockBuilder&, std::int64_t c1, std::int64_t c2, int k = 1, int s = 1, int p = -1, int groups = 1);
  Var forward(Context& context, const Var& x, const Place& place = {}) override;

 private:
  ConvNormAct& conv_;
};

/// Half of the channels by a convolution, the other half by a cheap depthwise one of it.
class GhostConv : public Module {
 public:
  GhostConv(const BlockBuilder&, std::int64_t c1, std::int64_t c2, int k = 1, int s = 1, int groups = 1, bool act = true);
  Var forward(Context& context, const Var& x, const Place& place = {}) override;

 private:
  ConvNormAct &cv1_, &cv2_;
};

class GhostBottleneck : public Module {
 public:
  GhostBottleneck(const BlockBuilder&, std::int64_t c1, std::int64_t c2, int k = 3, int s = 1);
  Var forward(Context& context, const Var& x, const Place& place = {}) override;

 private:
  Sequential& conv_;
  Module* shortcut_;  // null: identity
};

/// The identity, where a state dict counts a position without parameters.
class Identity : public Module {
 public:
  Var forward(Context&, const Var& x, const Place& = {}) override { return x; }
};

}  // namespace frost
