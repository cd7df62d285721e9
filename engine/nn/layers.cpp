#include "engine/nn/layers.h"

#include <cmath>

#include "kernels/trace/trace.h"

namespace frost {
namespace {
/// A parameter of another shape in its place: zeros.
void replace(Parameter& p, Shape shape, std::vector<std::int64_t> torch_shape) {
  p.value = Tensor::zeros(p.value.device(), shape, DType::f32, Role::parameter);
  p.torch_shape = std::move(torch_shape);
  p.grad = p.mask = Tensor();
  p.touch();
}

std::vector<float> uniform(Rng& rng, std::int64_t count, double bound) {
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& value : values) value = static_cast<float>(rng.uniform(-bound, bound));
  return values;
}
/// True for a pass on a meta device through a model on another device. It reads no values, so it must derive nothing from
/// them: that would stay on the model's device.
bool walked(const Context& context, const Parameter& of) { return &context.device != &of.value.device(); }

void check_widths(const Conv2d& conv, const BatchNorm2d& bn) {
  FROST_CHECK(bn.channels == conv.out, bn.name(), ": ", bn.channels, " channels after a convolution's ", conv.out);
}
}  // namespace

Conv2d::Conv2d(Device& device, std::int64_t in, std::int64_t out, const ConvGeometry& geometry, bool with_bias)
    : in(in),
      out(out),
      geometry(geometry),
      weight(add_parameter(device, "weight", {out, geometry.kernel_h, geometry.kernel_w, in / geometry.groups},
                           {out, in / geometry.groups, geometry.kernel_h, geometry.kernel_w})),
      bias(with_bias ? &add_parameter(device, "bias", {1, 1, 1, out}, {out}) : nullptr) {
  FROST_CHECK(in > 0 && out > 0 && geometry.groups > 0 && in % geometry.groups == 0 && out % geometry.groups == 0,
              "conv2d: ", in, " -> ", out, " channels in ", geometry.groups, " groups");
}

Var Conv2d::forward(Context& context, const Var& x, const Output& output) {
  return forward_as(context, x, context.compute, output);
}

Var Conv2d::forward_as(Context& context, const Var& x, DType type, const Output& output) {
  const Device::ScopeGuard scope(context.device, name());
  return conv2d(context, x, weight, bias, geometry, type, output);
}

Var Conv2d::forward_act(Context& context, const Var& x, Activation kind) {
  const Device::ScopeGuard scope(context.device, name());
  if (context.records(x, weight) || (context.tape && bias && bias->trainable))
    return activation(context, forward(context, x), kind);
  return conv2d_constant(context, x, {weight.value.f32(), weight.version}, out, bias ? bias->value.f32() : nullptr, geometry,
                         kind);
}

void Conv2d::initialise(Rng& rng) {
  if (is_meta(weight.value.backend())) return;  // its memory holds no values: drawing them would only take time
  const double fan_in = static_cast<double>(in / geometry.groups) * geometry.kernel_h * geometry.kernel_w;
  const double bound = 1.0 / std::sqrt(fan_in);
  weight.value.assign(uniform(rng, weight.value.elements(), bound));
  weight.touch();
  if (!bias) return;
  bias->value.assign(uniform(rng, out, bound));
  bias->touch();
}

void Conv2d::resize(std::int64_t new_in, std::int64_t new_out) {
  if (new_in == in && new_out == out) return;
  const std::int64_t groups = depthwise() ? new_out : geometry.groups;
  FROST_CHECK(new_in > 0 && new_out > 0 && new_in % groups == 0 && new_out % groups == 0, name(), ": ", new_in, " -> ",
              new_out, " channels in ", groups, " groups");
  in = new_in, out = new_out, geometry.groups = static_cast<int>(groups);
  replace(weight, {out, geometry.kernel_h, geometry.kernel_w, in / groups},
          {out, in / groups, geometry.kernel_h, geometry.kernel_w});
  if (bias) replace(*bias, {1, 1, 1, out}, {out});
}

void Conv2d::add_bias() {
  FROST_CHECK(!bias, name(), ": has a bias");
  bias = &add_parameter(weight.value.device(), "bias", {1, 1, 1, out}, {out});
  bias->name = name() + ".bias";
}

BatchNorm2d::BatchNorm2d(Device& device, std::int64_t channels, float eps, float momentum)
    : channels(channels),
      eps(eps),
      momentum(momentum),
      weight(add_parameter(device, "weight", {1, 1, 1, channels}, {channels})),
      bias(add_parameter(device, "bias", {1, 1, 1, channels}, {channels})),
      running_mean(add_buffer(device, "running_mean", {1, 1, 1, channels}, {channels}, 0.0f)),
      running_var(add_buffer(device, "running_var", {1, 1, 1, channels}, {channels}, 1.0f)),
      num_batches_tracked(add_counter("num_batches_tracked")) {
  weight.value.assign(std::vector<float>(static_cast<std::size_t>(channels), 1.0f));
}

void BatchNorm2d::resize(std::int64_t count) {
  if (count == channels) return;
  FROST_CHECK(count > 0, name(), ": ", count, " channels");
  channels = count;
  const Shape shape{1, 1, 1, channels};
  const std::vector<float> ones(static_cast<std::size_t>(channels), 1.0f);
  for (Parameter* p : {&weight, &bias}) replace(*p, shape, {channels});
  weight.value.assign(ones);
  for (Buffer* buffer : {&running_mean, &running_var}) {
    buffer->value = Tensor::zeros(buffer->value.device(), shape, DType::f32, Role::buffer);
    buffer->torch_shape = {channels};
    buffer->touch();
  }
  running_var.value.assign(ones);
}

bool BatchNorm2d::uses_running(const Context& context, bool block_frozen) const {
  return !context.training || (block_frozen && context.frozen_bn == FrozenBn::running);
}

const Tensor& BatchNorm2d::running_rstd() {
  if (rstd_version_ != running_var.version) {
    std::vector<float> values = running_var.value.to_vector();
    for (float& value : values) value = 1.0f / std::sqrt(value + eps);
    rstd_ = Tensor::from(running_var.value.device(), running_var.value.shape(), values, Role::buffer);
    rstd_version_ = running_var.version;
  }
  return rstd_;
}

void BatchNorm2d::forget_derived() {
  rstd_ = Tensor();
  rstd_version_ = 0;
  fused_values_ = {};
}

void forget_derived(Module& model) {
  model.walk([](const std::string&, Module& module) {
    if (auto* bn = dynamic_cast<BatchNorm2d*>(&module)) bn->forget_derived();
  });
}

Var BatchNorm2d::apply(Context& context, const Var& x, Activation activation, Residual residual, const Output& output) {
  const Device::ScopeGuard scope(context.device, name());
  FROST_CHECK(x.shape().c == channels, name(), ": ", x.shape().c, " channels, expected ", channels);
  if (context.profile) context.profile->norm += 4.0 * static_cast<double>(x.shape().elements());
  const bool running = uses_running(context, frozen());
  if (!running) {
    FROST_CHECK(x.shape().pixels() > 1, name(), ": batch statistics need more than one value per channel, got shape ",
                x.shape());
    running_mean.touch();
    running_var.touch();
    ++num_batches_tracked.value;
  }
  const NormOperands norm{.weight = weight,
                          .bias = bias,
                          .running_mean = running_mean.value,
                          .running_var = running_var.value,
                          .mean = running_mean.value,
                          .rstd = !running                  ? Tensor()
                                  : walked(context, weight) ? running_var.value
                                                            : running_rstd(),
                          .eps = eps,
                          .momentum = momentum,
                          .batch_statistics = !running};
  return norm_act(context, x, norm, activation, residual, output);
}

ConvNormAct::ConvNormAct(Device& device, std::int64_t in, std::int64_t out, const ConvGeometry& geometry,
                         Activation activation, const ConvNormSettings& settings)
    : activation(activation),
      conv(add_child(settings.conv, std::make_unique<Conv2d>(device, in, out, geometry, false))),
      bn(add_child(settings.bn, std::make_unique<BatchNorm2d>(device, out, settings.eps, settings.momentum))),
      bn_name_(settings.bn),
      torch_class_(settings.torch_class),
      fused_(conv, bn) {}

void FusedConvNorm::fuse_values() {
  check_widths(conv_, bn_);
  const std::uint64_t now[6] = {conv_.weight.version,     conv_.bias ? conv_.bias->version : 0,
                                bn_.weight.version,       bn_.bias.version,
                                bn_.running_mean.version, bn_.running_var.version};
  if (bn_.fused_values_.weight && std::equal(std::begin(now), std::end(now), std::begin(bn_.fused_values_.from))) return;
  // docs/spec/model.md section 6: W' = s W, b' = beta + s (b - mean), s = gamma / sqrt(var + eps)
  std::vector<float> weight = conv_.weight.value.to_vector(), bias = bn_.bias.value.to_vector();
  const std::vector<float> gamma = bn_.weight.value.to_vector(), mean = bn_.running_mean.value.to_vector(),
                           var = bn_.running_var.value.to_vector();
  const std::vector<float> conv_bias = conv_.bias ? conv_.bias->value.to_vector() : std::vector<float>(bias.size(), 0.0f);
  const std::size_t filter = weight.size() / bias.size();
  for (std::size_t o = 0; o < bias.size(); ++o) {
    const float s = gamma[o] / std::sqrt(var[o] + bn_.eps);
    for (std::size_t i = 0; i < filter; ++i) weight[o * filter + i] *= s;
    bias[o] += s * (conv_bias[o] - mean[o]);
  }
  Device& device = conv_.weight.value.device();
  if (!bn_.fused_values_.weight || bn_.fused_values_.weight.shape() != conv_.weight.value.shape()) {
    bn_.fused_values_.weight = Tensor(device, conv_.weight.value.shape(), DType::f32, Role::buffer);
    bn_.fused_values_.bias = Tensor(device, bn_.bias.value.shape(), DType::f32, Role::buffer);
  }
  bn_.fused_values_.weight.assign(weight);
  bn_.fused_values_.bias.assign(bias);
  std::copy(std::begin(now), std::end(now), std::begin(bn_.fused_values_.from));
  bn_.fused_values_.version = new_version();
}

void FusedConvNorm::fuse() {
  if (fused_) return;
  fuse_values();
  conv_.weight.value.assign(bn_.fused_values_.weight.to_vector());
  conv_.weight.touch();
  if (!conv_.bias) conv_.add_bias();
  conv_.bias->value.assign(bn_.fused_values_.bias.to_vector());
  conv_.bias->touch();
  bn_.fused_values_.weight = bn_.fused_values_.bias = Tensor();
  fused_ = true;
}

void ConvNormAct::fuse() {
  if (fused_.fused()) return;
  fused_.fuse();
  old_bn_ = take_child(bn_name_);
}

void fuse(Module& model) {
  std::vector<ConvNormAct*> blocks;
  model.walk([&](const std::string&, Module& module) {
    if (auto* block = dynamic_cast<ConvNormAct*>(&module)) blocks.push_back(block);
  });
  for (ConvNormAct* block : blocks) block->fuse();
}

Var FusedConvNorm::forward(Context& context, const Var& x, Activation activation, Residual residual, const Output& output) {
  FROST_CHECK(!fused_ || (!context.tape && !residual.before_activation()), conv_.name(), ": fused, for evaluation alone");
  const bool constant =
      !context.training || (!conv_.weight.trainable && !(conv_.bias && conv_.bias->trainable) && bn_.frozen());
  // Before the activation a residual is added in the norm's pass: no more traffic than fused, with an add after.
  if (fused_ || (constant && bn_.uses_running(context, true) && !context.records(x) && !residual.before_activation())) {
    FROST_CHECK(x.shape().c == conv_.in, conv_.name(), ": x has ", x.shape().c, " channels, the weight expects ", conv_.in);
    if (!fused_) check_widths(conv_, bn_);
    const bool plain = fused_ || walked(context, conv_.weight);
    if (!plain) fuse_values();
    if (context.profile && !fused_)
      context.profile->norm += 4.0 * static_cast<double>(conv_.geometry.output(x.shape(), conv_.out).elements());
    const Filters weight = plain ? Filters{conv_.weight.value.f32(), conv_.weight.version}
                                 : Filters{bn_.fused_values_.weight.f32(), bn_.fused_values_.version};
    const float* bias = (fused_ ? conv_.bias->value : plain ? bn_.bias.value : bn_.fused_values_.bias).f32();
    if (!residual) return conv2d_constant(context, x, weight, conv_.out, bias, conv_.geometry, activation, output);
    const Var y = conv2d_constant(context, x, weight, conv_.out, bias, conv_.geometry, activation);
    return add(context, *residual.value, y, output);
  }
  bn_.fused_values_.weight = bn_.fused_values_.bias =
      Tensor();  // of an earlier pass; in training they would only take memory
  const Var y = conv_.forward(context, x);
  return bn_.apply(context, y, activation, residual, output);
}

Linear::Linear(Device& device, std::int64_t in, std::int64_t out, std::int64_t height, std::int64_t width)
    : in(in),
      out(out),
      weight(add_parameter(device, "weight", {out, height, width, in}, {out, height * width * in})),
      bias(add_parameter(device, "bias", {1, 1, 1, out}, {out})) {
  FROST_CHECK(in > 0 && out > 0, "linear: ", in, " -> ", out);
}

void Linear::resize(std::int64_t new_out) {
  if (new_out == out) return;
  FROST_CHECK(new_out > 0, name(), ": ", new_out, " outputs");
  out = new_out;
  const Shape shape = weight.value.shape();
  replace(weight, {out, shape.h, shape.w, shape.c}, {out, shape.h * shape.w * shape.c});
  replace(bias, {1, 1, 1, out}, {out});
}

Var Linear::forward(Context& context, const Var& x, const Output&) {
  const Device::ScopeGuard scope(context.device, name());
  return linear(context, x, weight, &bias);
}

void Linear::initialise(Rng& rng) {
  if (is_meta(weight.value.backend())) return;
  const double bound = 1.0 / std::sqrt(static_cast<double>(weight.value.elements() / out));
  weight.value.assign(uniform(rng, weight.value.elements(), bound));
  weight.touch();
  bias.value.assign(uniform(rng, out, bound));
  bias.touch();
}

void Linear::initialise_normal(Rng& rng, double std) {
  std::vector<float> values(static_cast<std::size_t>(weight.value.elements()));
  for (float& value : values) value = static_cast<float>(std * rng.normal());
  weight.value.assign(values);
  weight.touch();
  bias.value.fill_zero();
  bias.touch();
}

Var DropoutLayer::forward(Context& context, const Var& x, const Output&) {
  std::uint64_t stream = 0;
  for (const char ch : name()) stream = Rng::mix(stream ^ static_cast<unsigned char>(ch));
  return dropout(context, x, p, stream);
}

Var AvgPool2d::forward(Context& context, const Var& x, const Output&) {
  const Shape& s = x.shape();
  FROST_CHECK(s.h % kernel == 0 && s.w % kernel == 0, name(), ": sides of ", s, " are no multiples of the kernel of ",
              kernel);
  return average_pool(context, x, s.h / kernel, s.w / kernel);
}

Var Upsample::forward(Context& context, const Var& x, const Output& output) {
  const std::int64_t height = to ? to->height : x.shape().h * by.rows, width = to ? to->width : x.shape().w * by.columns;
  const Var y = upsample(context, x, height, width, mode, output);
  if (context.profile) context.profile->resize += static_cast<double>(y.shape().elements());
  return y;
}

void Sequential::add(std::unique_ptr<Module> module) {
  steps_.push_back(module.get());
  add_child(std::to_string(steps_.size() - 1), std::move(module));
}

Var Sequential::forward(Context& context, const Var& x, const Output& output) {
  FROST_CHECK(!steps_.empty(), name(), ": an empty sequence");
  Var y = x;
  for (std::size_t i = 0; i < steps_.size(); ++i) {
    const Device::ScopeGuard scope(context.device, steps_[i]->name());
    y = steps_[i]->forward(context, y, i + 1 == steps_.size() ? output : Output{});
  }
  return y;
}

}  // namespace frost
