#include "engine/autograd/ops.h"
#include "engine/autograd/rematerialize.h"

/// The operators that have weights.
namespace frost {
namespace {

/// Adds dy's sum over the pixels of each channel to `sums`: norm_act's bias gradient, without norm or activation.
void add_channel_sums(const Tensor& dy, float* sums) {
  const Tensor zeros = Tensor::zeros(dy.device(), {1, 1, 1, dy.shape().c}, DType::f32, Role::workspace);
  dy.backend().norm_act_backward({.x = dy,
                                  .dy = dy,
                                  .weight = zeros.f32(),
                                  .bias = zeros.f32(),
                                  .mean = zeros.f32(),
                                  .rstd = zeros.f32(),
                                  .activation = {ActivationKind::identity},
                                  .batch_statistics = false,
                                  .dx = {},
                                  .dweight = nullptr,
                                  .dbias = sums});
}

void count_convolution(Context& context, const Var& x, const ConvGeometry& geometry, std::int64_t filters, DType out,
                       bool trainable, bool bias, Activation activation) {
  if (!context.profile) return;
  context.profile->convolution += static_cast<double>(geometry.output(x.shape(), filters).elements()) *
                                  static_cast<double>(x.shape().c / geometry.groups) * geometry.kernel_h * geometry.kernel_w;
  context.profile->calls.push_back(
      {geometry, x.shape(), filters, out, context.records(x), context.tape && trainable, bias, activation});
}

struct ConvNode final : Node {
  Saved x;  // only where the weight is trainable
  Shape x_shape;
  DType x_dtype = DType::f32;
  Parameter *weight = nullptr, *bias = nullptr;
  ConvGeometry geometry;

  const char* name() const override { return "conv2d"; }
  const Parameter* applied() const override { return weight; }
  Grads backward(Tensor dy) override {
    Backend& backend = dy.backend();
    float* dbias = bias && bias->trainable ? bias->grad_f32() : nullptr;
    if (weight->trainable) {
      backend.conv_backward_weight(
          {.geometry = geometry, .x = x.get(), .dy = dy, .dweight = weight->grad_f32(), .dbias = dbias, .accumulate = true});
    } else if (dbias) {
      add_channel_sums(dy, dbias);
    }
    x = Saved();  // its memory may serve dx
    if (!wanted(0)) return {{}};
    Tensor dx(dy.device(), x_shape, x_dtype);
    backend.conv_backward_data({.geometry = geometry, .dy = dy, .weight = {weight->value.f32(), weight->version}, .dx = dx});
    return {dx};
  }
};

}  // namespace

Var conv2d(Context& context, const Var& x, Parameter& weight, Parameter* bias, const ConvGeometry& geometry, DType out,
           const Output& output) {
  const std::int64_t filters = weight.value.shape().n;
  FROST_CHECK(x.shape().c == weight.value.shape().c * geometry.groups, "conv2d ", weight.name, ": x has ", x.shape().c,
              " channels, the weight expects ", weight.value.shape().c * geometry.groups);
  const Shape y_shape = geometry.output(x.shape(), filters);
  FROST_CHECK(geometry.fits(x.shape()), "conv2d ", weight.name, ": input ", x.shape(), " is smaller than the kernel");
  Tensor y = output.tensor(context, y_shape, out);
  count_convolution(context, x, geometry, filters, out, weight.trainable, bias != nullptr, {});
  context.device.backend().conv_forward({.geometry = geometry,
                                         .x = x.value,
                                         .weight = {weight.value.f32(), weight.version},
                                         .bias = bias ? bias->value.f32() : nullptr,
                                         .activation = {},
                                         .y = y});
  if (!context.records(x, weight) && !(context.tape && bias && bias->trainable)) return {y, -1, nullptr};
  auto node = std::make_unique<ConvNode>();
  if (weight.trainable) node->x = Saved(x);
  node->x_shape = x.shape();
  node->x_dtype = x.value.dtype();
  node->weight = &weight;
  node->bias = bias;
  node->geometry = geometry;
  return context.tape->record(y, std::move(node), {&x});
}

Var conv2d_constant(Context& context, const Var& x, Filters weight, std::int64_t out_channels, const float* bias,
                    const ConvGeometry& geometry, Activation activation, const Output& output) {
  FROST_CHECK(!context.records(x), "conv2d_constant: its input needs a gradient");
  const Shape y_shape = geometry.output(x.shape(), out_channels);
  FROST_CHECK(geometry.fits(x.shape()), "conv2d: input ", x.shape(), " is smaller than the kernel");
  Tensor y = output.tensor(context, y_shape, context.compute);
  count_convolution(context, x, geometry, out_channels, context.compute, false, bias != nullptr, activation);
  context.device.backend().conv_forward(
      {.geometry = geometry, .x = x.value, .weight = weight, .bias = bias, .activation = activation, .y = y});
  return {y, -1, nullptr};
}

namespace {

struct NormActNode final : Node {
  Tensor x, mean, rstd;  // what backward reads, and nothing else: y is not kept; x empty: nothing reads it
  Parameter *weight = nullptr, *bias = nullptr;
  Activation activation;
  bool batch_statistics = true, residual = false;
  Saved shortcut;  // the residual before the activation
  bool residual_before = false;

  const char* name() const override { return "norm_act"; }
  const Parameter* applied() const override { return weight; }
  Grads backward(Tensor dy) override {
    Backend& backend = dy.backend();
    if (!residual_before && !wanted(0) && !weight->trainable && !bias->trainable)
      return {Tensor(), dy};  // only the residual wants it
    const auto fresh = [&] { return Tensor(dy.device(), dy.shape(), dy.dtype()); };
    const bool overwrite = may_overwrite(dy);
    Tensor dx, dresidual = dy, added;
    if (residual_before) {
      added = shortcut.get();
      if (!overwrite) dresidual = fresh();
    }
    // dx may take dy's memory, or dresidual's, where nobody else gets that
    if (wanted(0)) dx = residual && wanted(1) ? fresh() : residual_before || overwrite ? dresidual : fresh();
    backend.norm_act_backward({.x = x ? x : dy,
                               .dy = dy,
                               .weight = weight->value.f32(),
                               .bias = bias->value.f32(),
                               .mean = mean.f32(),
                               .rstd = rstd.f32(),
                               .activation = activation,
                               .batch_statistics = batch_statistics,
                               .residual = residual_before ? ConstView(added) : ConstView{},
                               .dresidual = residual_before ? dresidual.view() : View{},
                               .dx = dx ? dx.view() : View{},
                               .dweight = weight->trainable ? weight->grad_f32() : nullptr,
                               .dbias = bias->trainable ? bias->grad_f32() : nullptr});
    if (residual) return {dx, wanted(1) ? dresidual : Tensor()};
    return {dx};
  }
};

}  // namespace

Var norm_act(Context& context, const Var& x, const NormOperands& norm, Activation activation, Residual residual,
             const Output& output) {
  Device& device = context.device;
  Backend& backend = device.backend();
  const Shape channels{1, 1, 1, x.shape().c};
  Tensor mean = norm.mean, rstd = norm.rstd;
  if (norm.batch_statistics) {
    mean = Tensor(device, channels);
    rstd = Tensor(device, channels);
    backend.batch_statistics({.x = x.value,
                              .eps = norm.eps,
                              .momentum = norm.momentum,
                              .mean = mean.f32(),
                              .rstd = rstd.f32(),
                              .running_mean = norm.running_mean ? norm.running_mean.f32() : nullptr,
                              .running_var = norm.running_var ? norm.running_var.f32() : nullptr});
  }
  Tensor y = output.tensor(context, x.shape(), x.value.dtype());
  const NormActForward forward{.x = x.value,
                               .weight = norm.weight.value.f32(),
                               .bias = norm.bias.value.f32(),
                               .mean = mean.f32(),
                               .rstd = rstd.f32(),
                               .activation = activation,
                               .residual = residual ? ConstView(residual.value->value) : ConstView{},
                               .order = residual.order,
                               .y = y};
  backend.norm_act_forward(forward);
  const bool weights_want = norm.weight.trainable || norm.bias.trainable;
  const bool wanted = x.needs_grad() || weights_want || (residual && residual.value->needs_grad());
  if (!context.tape || !wanted) return {y, -1, nullptr};

  auto node = std::make_unique<NormActNode>();
  // A linear map with constants (frozen, running statistics, no activation) is its own derivative: dy is all it needs.
  const bool linear = !norm.batch_statistics && !norm.weight.trainable && activation.kind == ActivationKind::identity;
  if (residual.before_activation() || ((x.needs_grad() || weights_want) && !linear)) {
    node->x = x.value;  // the tensor itself, never a rematerialization: that of y below is made from it
    if (x.value.storage().role() == Role::activation) x.value.storage().set_role(Role::saved_activation);
  }
  node->mean = mean;
  node->rstd = rstd;
  if (norm.batch_statistics) {
    mean.storage().set_role(Role::saved_activation);
    rstd.storage().set_role(Role::saved_activation);
  }
  node->weight = &norm.weight;
  node->bias = &norm.bias;
  node->activation = activation;
  node->batch_statistics = norm.batch_statistics;
  node->residual = bool(residual);
  node->residual_before = residual.before_activation();
  if (node->residual_before) node->shortcut = Saved(*residual.value);
  const Tensor kept = node->x;
  Var result = residual ? context.tape->record(y, std::move(node), {&x, residual.value})
                        : context.tape->record(y, std::move(node), {&x});
  if (residual.before_activation() || !kept) return result;
  std::vector<Saved> sources;
  if (residual) sources.push_back(Saved::source(*residual.value));
  make_rematerializable(context, result, std::move(sources),
                        [&backend, forward, kept, mean, rstd](View target, const std::vector<Saved>& residuals) {
                          NormActForward again = forward;
                          Tensor added;
                          if (!residuals.empty()) {
                            added = residuals[0].get();
                            again.residual = added;
                          }
                          again.y = target;
                          backend.norm_act_forward(again);
                        });
  return result;
}

namespace {

struct LinearNode final : Node {
  Saved x;  // only where the weight is trainable
  Parameter *weight = nullptr, *bias = nullptr;

  const char* name() const override { return "linear"; }
  Grads backward(Tensor dy) override {
    const Shape in = weight->value.shape();
    Tensor dx;
    if (wanted(0)) dx = Tensor(dy.device(), {dy.shape().n, in.h, in.w, in.c});
    const Tensor input = weight->trainable ? x.get() : Tensor();
    dy.backend().linear_backward({.x = input ? input.f32() : nullptr,
                                  .weight = weight->value.f32(),
                                  .dy = dy.f32(),
                                  .dx = dx ? dx.f32() : nullptr,
                                  .dweight = weight->trainable ? weight->grad_f32() : nullptr,
                                  .dbias = bias && bias->trainable ? bias->grad_f32() : nullptr,
                                  .rows = dy.shape().n,
                                  .in = in.h * in.w * in.c,
                                  .out = in.n});
    return {dx};
  }
};

}  // namespace

Var linear(Context& context, const Var& given, Parameter& weight, Parameter* bias) {
  const Shape in = weight.value.shape(), s = given.shape();
  FROST_CHECK(s.h == in.h && s.w == in.w && s.c == in.c, "linear ", weight.name, ": x is ", s, ", expected ",
              Shape{s.n, in.h, in.w, in.c});
  const Var x = as_type(context, given, DType::f32);
  FROST_CHECK(x.value.packed(), "linear ", weight.name, ": x is a channel slice");
  if (context.profile) context.profile->linear += static_cast<double>(s.n * weight.value.elements());
  Tensor y(context.device, {s.n, 1, 1, in.n});
  context.device.backend().linear_forward({.x = x.value.f32(),
                                           .weight = weight.value.f32(),
                                           .bias = bias ? bias->value.f32() : nullptr,
                                           .y = y.f32(),
                                           .rows = s.n,
                                           .in = in.h * in.w * in.c,
                                           .out = in.n});
  if (!context.records(x, weight) && !(context.tape && bias && bias->trainable)) return {y, -1, nullptr};
  auto node = std::make_unique<LinearNode>();
  if (weight.trainable) node->x = Saved(x);
  node->weight = &weight;
  node->bias = bias;
  return context.tape->record(y, std::move(node), {&x});
}

}  // namespace frost
