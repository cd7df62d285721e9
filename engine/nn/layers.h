#pragma once
#include <memory>
#include <optional>

#include "engine/base/rng.h"
#include "engine/nn/module.h"

namespace frost {

/// Convolution: `weight` (out, in / groups, kh, kw) in the state dict, kept OHWI; `bias` (out) if asked for.
class Conv2d : public Module {
 public:
  Conv2d(Device& device, std::int64_t in, std::int64_t out, const ConvGeometry& geometry, bool with_bias);
  std::string torch_class() const override { return "Conv2d"; }
  Var forward(Context& context, const Var& x, const Output& output = {}) override;
  /// As forward, with a result of type `out` (a head's logits stay f32 while activations are 16-bit).
  Var forward_as(Context& context, const Var& x, DType out, const Output& output = {});
  /// activation(forward(x)), in one call where nothing is recorded.
  Var forward_act(Context& context, const Var& x, Activation kind);
  /// PyTorch's default: uniform in +-1 / sqrt(fan_in), weight and bias.
  void initialise(Rng& rng);
  /// A group for each channel.
  bool depthwise() const { return geometry.groups > 1 && geometry.groups == in && in == out; }
  /// Other widths for the same kernel: values, gradient and mask are lost. A depthwise one keeps a group for each channel.
  void resize(std::int64_t in, std::int64_t out);
  /// Gives a convolution without bias one.
  void add_bias();

  std::int64_t in, out;
  ConvGeometry geometry;
  Parameter& weight;
  Parameter* bias;
};

/// Batch normalisation over channels; applied together with an activation by norm_act.
class BatchNorm2d : public Module {
 public:
  BatchNorm2d(Device& device, std::int64_t channels, float eps = 1e-5f, float momentum = 0.1f);
  /// y = activation(norm(x)) [+ residual].
  std::string torch_class() const override { return "BatchNorm2d"; }
  Var apply(Context& context, const Var& x, Activation activation, Residual residual = {}, const Output& output = {});
  Var forward(Context& context, const Var& x, const Output& output = {}) override {
    return apply(context, x, {}, {}, output);
  }
  /// Do running statistics normalise in this pass? In evaluation, and for a frozen norm that keeps its statistics.
  bool uses_running(const Context& context, bool block_frozen) const;
  bool frozen() const { return !weight.trainable && !bias.trainable; }
  /// Another number of channels: values are lost.
  void resize(std::int64_t channels);
  /// 1 / sqrt(running_var + eps), computed again when the statistics change.
  const Tensor& running_rstd();
  /// Drops the values derived for passes with running statistics. Such a pass computes them again.
  void forget_derived();

  std::int64_t channels;
  float eps, momentum;
  Parameter &weight, &bias;
  Buffer &running_mean, &running_var;
  Counter& num_batches_tracked;

 private:
  friend class FusedConvNorm;
  struct FusedValues {  // into the convolution before it: see FusedConvNorm
    Tensor weight, bias;
    std::uint64_t from[6] = {};  // the versions of what was fused
    std::uint64_t version = 0;
  };
  Tensor rstd_;
  std::uint64_t rstd_version_ = 0;
  FusedValues fused_values_;
};

/// A block's convolution and the batch norm after it, run together with an activation, whatever their names are. Where the
/// statistics are constants and nothing below needs a gradient they run fused, as one convolution with bias and activation.
class FusedConvNorm {
 public:
  FusedConvNorm(Conv2d& conv, BatchNorm2d& bn) : conv_(conv), bn_(bn) {}
  Var forward(Context& context, const Var& x, Activation activation, Residual residual = {}, const Output& output = {});
  /// Fuses the norm into the convolution permanently: weight and bias are the fused ones, the norm is not read any more.
  void fuse();
  bool fused() const { return fused_; }

 private:
  void fuse_values();
  bool fused_ = false;
  Conv2d& conv_;
  BatchNorm2d& bn_;
};

/// BatchNorm2d::forget_derived of a whole model: after a validation that training follows, its memory is free again.
void forget_derived(Module& model);

/// Of a block's norm, and the names of its two parts.
struct ConvNormSettings {
  float eps = 1e-5f, momentum = 0.1f;
  const char *conv = "conv", *bn = "bn";
  const char* torch_class = "Conv";
};
/// Convolution, batch norm, activation: the block YOLOv5 calls Conv (`conv.weight`, `bn.*`), and torchvision
/// Conv2dNormActivation (`0.weight`, `1.*`).
class ConvNormAct : public Module {
 public:
  ConvNormAct(Device& device, std::int64_t in, std::int64_t out, const ConvGeometry& geometry, Activation activation,
              const ConvNormSettings& settings = {});
  std::string torch_class() const override { return torch_class_; }
  Var forward(Context& context, const Var& x, const Output& output = {}) override {
    return forward(context, x, nullptr, output);
  }
  Var forward(Context& context, const Var& x, Residual residual, const Output& output = {}) {
    const Device::ScopeGuard scope(context.device, name());
    return fused_.forward(context, x, activation, residual, output);
  }
  /// Fuses permanently (docs/spec/model.md section 6): `conv.weight`, `conv.bias`, no `bn`. Such a block is only evaluated.
  void fuse();

  Activation activation;
  bool own_activation = false;  // a module of its own in PyTorch, where layers are counted; else one object for the graph
  Conv2d& conv;
  BatchNorm2d& bn;  // once fused, no part of the tree any more

 private:
  const char *bn_name_, *torch_class_;
  FusedConvNorm fused_;
  std::unique_ptr<Module> old_bn_;
};

/// Fuses every ConvNormAct of a model that will only be evaluated.
void fuse(Module& model);

/// Fully connected: `weight` (out, height * width * in) and `bias` (out) in the state dict. Reads maps of (height, width,
/// in) as PyTorch does after flatten(1), channels first; the weight is kept OHWI instead, so that nothing is reordered.
class Linear : public Module {
 public:
  Linear(Device& device, std::int64_t in, std::int64_t out, std::int64_t height = 1, std::int64_t width = 1);
  std::string torch_class() const override { return "Linear"; }
  Var forward(Context& context, const Var& x, const Output& output = {}) override;  // f32 (n, 1, 1, out)
  /// PyTorch's default: uniform in +-1 / sqrt(fan_in), weight and bias.
  void initialise(Rng& rng);
  /// Another number of outputs: values, gradient and mask are lost.
  void resize(std::int64_t out);
  /// Normal weights of this std, a bias of 0.
  void initialise_normal(Rng& rng, double std);

  std::int64_t in, out;
  Parameter &weight, &bias;
};

/// In training each element is 0 with probability p; the choices come from the pass's seed and this module's name.
class DropoutLayer : public Module {
 public:
  explicit DropoutLayer(float p) : p(p) {}
  std::string torch_class() const override { return "Dropout"; }
  Var forward(Context& context, const Var& x, const Output& output = {}) override;
  float p;
};

/// An activation as a module of its own.
class Activate : public Module {
 public:
  explicit Activate(Activation kind) : kind(kind) {}
  std::string torch_class() const override { return "Activation"; }  // of any kind
  Var forward(Context& context, const Var& x, const Output& = {}) override { return activation(context, x, kind); }
  Activation kind;
};

class MaxPool2d : public Module {
 public:
  explicit MaxPool2d(PoolGeometry geometry) : geometry(geometry) {}
  std::string torch_class() const override { return "MaxPool2d"; }
  Var forward(Context& context, const Var& x, const Output& output = {}) override {
    return max_pool(context, x, geometry, output);
  }
  PoolGeometry geometry;
};

/// Means over squares that lie side by side: sides must be multiples of `kernel`.
class AvgPool2d : public Module {
 public:
  explicit AvgPool2d(int kernel) : kernel(kernel) {}
  std::string torch_class() const override { return "AvgPool2d"; }
  Var forward(Context& context, const Var& x, const Output& output = {}) override;
  int kernel;
};

/// Means over a grid of `rows` x `columns` windows.
class AdaptiveAvgPool2d : public Module {
 public:
  AdaptiveAvgPool2d(std::int64_t rows, std::int64_t columns) : rows(rows), columns(columns) {}
  std::string torch_class() const override { return "AdaptiveAvgPool2d"; }
  Var forward(Context& context, const Var& x, const Output& = {}) override {
    return average_pool(context, x, rows, columns);
  }
  std::int64_t rows, columns;
};

/// Enlargement by whole factors, or to a size.
class Upsample : public Module {
 public:
  struct By {
    int rows, columns;
  };
  struct To {
    int height, width;
  };
  Upsample(By by, ResizeMode mode) : by(by), mode(mode) {}
  Upsample(To to, ResizeMode mode) : to(to), mode(mode) {}
  std::string torch_class() const override { return "Upsample"; }
  Var forward(Context& context, const Var& x, const Output& output = {}) override;
  By by{0, 0};
  std::optional<To> to;  // instead of `by`
  ResizeMode mode;
};

class ZeroPad2d : public Module {
 public:
  ZeroPad2d(int left, int right, int top, int bottom) : left(left), right(right), top(top), bottom(bottom) {}
  std::string torch_class() const override { return "ZeroPad2d"; }
  Var forward(Context& context, const Var& x, const Output& = {}) override {
    return zero_pad(context, x, left, right, top, bottom);
  }
  int left, right, top, bottom;
};

/// Joins its inputs' channels.
class Concat : public Module {
 public:
  std::string torch_class() const override { return "Concat"; }
  Var forward_many(Context& context, const std::vector<Var>& inputs) override { return concat(context, inputs); }
};

/// Modules one after the other: names are their positions.
class Sequential : public Module {
 public:
  std::string torch_class() const override { return "Sequential"; }
  template <class M>
  M& append(std::unique_ptr<M> module) {
    M& reference = *module;
    add(std::move(module));
    return reference;
  }
  Var forward(Context& context, const Var& x, const Output& output = {}) override;
  std::size_t size() const { return steps_.size(); }
  Module& operator[](std::size_t i) { return *steps_[i]; }

 private:
  void add(std::unique_ptr<Module> module);
  std::vector<Module*> steps_;
};

}  // namespace frost
