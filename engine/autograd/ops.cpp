#include "engine/autograd/ops.h"

#include <numeric>

namespace frost {
namespace {

/// Gives `var` a recipe, where the tape wants recipes at all.
void remember(Context& context, Var& var, std::function<void(View)> write) {
  if (!context.tape || !context.tape->recompute()) return;
  var.origin = std::make_shared<Origin>(Origin{&context.device, var.value.shape(), var.value.dtype(), std::move(write), {}});
}

void count_convolution(Context& context, const Var& x, const ConvGeometry& geometry, std::int64_t filters, DType out,
                       bool trainable, bool folded) {
  if (!context.profile) return;
  context.profile->convolution += geometry.output(x.shape(), filters).elements() * (x.shape().c / geometry.groups) *
                                  geometry.kernel_h * geometry.kernel_w;
  context.profile->calls.push_back(
      {geometry, x.shape(), filters, out, context.records(x), context.tape && trainable, folded});
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
    if (weight->trainable) {
      float* dbias = bias && bias->trainable ? bias->grad_f32() : nullptr;
      backend.conv_backward_weight(
          {.geometry = geometry, .x = x.get(), .dy = dy, .dweight = weight->grad_f32(), .dbias = dbias, .accumulate = true});
    }
    x = Saved();  // its memory may serve dx
    if (!wanted(0)) return {{}};
    Tensor dx(dy.device(), x_shape, x_dtype);
    backend.conv_backward_data({.geometry = geometry, .dy = dy, .weight = {weight->value.f32(), weight->stamp}, .dx = dx});
    return {dx};
  }
};

struct NormActNode final : Node {
  Tensor x, mean, rstd;  // what backward reads, and nothing else: y is not kept
  Parameter *weight = nullptr, *bias = nullptr;
  Activation activation;
  bool batch_statistics = true, residual = false;
  Saved shortcut;  // the residual in front of the activation
  bool residual_before = false;

  const char* name() const override { return "norm_act"; }
  const Parameter* applied() const override { return weight; }
  Grads backward(Tensor dy) override {
    Backend& backend = dy.backend();
    const auto fresh = [&] { return Tensor(dy.device(), x.shape(), dy.dtype()); };
    const bool overwrite = may_overwrite(dy);
    Tensor dx, dresidual = dy, added;
    if (residual_before) {
      added = shortcut.get();
      if (!overwrite) dresidual = fresh();
    }
    // dx may take dy's memory, or dresidual's, where nobody else gets that
    if (wanted(0)) dx = residual && wanted(1) ? fresh() : residual_before || overwrite ? dresidual : fresh();
    backend.norm_act_backward({.x = x,
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

struct ActivationNode final : Node {
  Saved x;
  Activation kind;
  const char* name() const override { return "activation"; }
  Grads backward(Tensor dy) override {
    Tensor dx = may_overwrite(dy) ? dy : Tensor(dy.device(), dy.shape(), dy.dtype());
    dy.backend().activation_backward({.activation = kind, .x = x.get(), .dy = dy, .dx = dx});
    return {dx};
  }
};

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

struct DropoutNode final : Node {
  float p;
  std::uint64_t seed;
  const char* name() const override { return "dropout"; }
  Grads backward(Tensor dy) override {
    Tensor dx = may_overwrite(dy) ? dy : Tensor(dy.device(), dy.shape(), dy.dtype());
    dy.backend().dropout({.p = p, .seed = seed, .x = dy, .y = dx});
    return {dx};
  }
};

struct TypeNode final : Node {
  DType x_dtype;
  const char* name() const override { return "as_type"; }
  Grads backward(Tensor dy) override {
    Tensor dx(dy.device(), dy.shape(), x_dtype);
    dy.backend().copy({.x = dy, .y = dx});
    return {dx};
  }
};

struct AveragePoolNode final : Node {
  Shape x_shape;
  const char* name() const override { return "average_pool"; }
  Grads backward(Tensor dy) override {
    Tensor dx(dy.device(), x_shape, dy.dtype());
    dy.backend().adaptive_avg_pool_backward({.dy = dy, .dx = dx});
    return {dx};
  }
};

struct AddNode final : Node {
  const char* name() const override { return "add"; }
  Grads backward(Tensor dy) override { return {dy, dy}; }
};

struct MaxPoolNode final : Node {
  Saved x;
  PoolGeometry geometry;
  const char* name() const override { return "max_pool"; }
  Grads backward(Tensor dy) override {
    const Tensor input = x.get();
    Tensor dx(dy.device(), input.shape(), dy.dtype());
    dy.backend().max_pool_backward({.geometry = geometry, .x = input, .dy = dy, .dx = dx});
    return {dx};
  }
};

struct UpsampleNode final : Node {
  Shape x_shape;
  ResizeMode mode;
  const char* name() const override { return "upsample"; }
  Grads backward(Tensor dy) override {
    Tensor dx(dy.device(), x_shape, dy.dtype());
    dy.backend().resize_backward({.mode = mode, .dy = dy, .dx = dx});
    return {dx};
  }
};

struct ZeroPadNode final : Node {
  Shape x_shape;
  int left, right, top, bottom;
  const char* name() const override { return "zero_pad"; }
  Grads backward(Tensor dy) override {
    Tensor dx(dy.device(), x_shape, dy.dtype());
    dy.backend().zero_pad_backward({.x = dy, .y = dx, .left = left, .right = right, .top = top, .bottom = bottom});
    return {dx};
  }
};

struct SpaceToDepthNode final : Node {
  Shape x_shape;
  const char* name() const override { return "space_to_depth"; }
  Grads backward(Tensor dy) override {
    Tensor dx(dy.device(), x_shape, dy.dtype());
    dy.backend().depth_to_space({.x = dy, .y = dx});
    return {dx};
  }
};

struct ConcatNode final : Node {
  std::vector<std::int64_t> channels;
  const char* name() const override { return "concat"; }
  Grads backward(Tensor dy) override {
    Grads grads;
    std::int64_t first = 0;
    for (std::size_t part = 0; part < channels.size(); first += channels[part++])
      grads.push_back(wanted(part) ? dy.channels(first, channels[part]) : Tensor());
    return grads;
  }
};

}  // namespace

Var conv2d(Context& context, const Var& x, Parameter& weight, Parameter* bias, const ConvGeometry& geometry, DType out,
           const Place& place) {
  const std::int64_t filters = weight.value.shape().n;
  FROST_CHECK(x.shape().c == weight.value.shape().c * geometry.groups, "conv2d ", weight.name, ": x has ", x.shape().c,
              " channels, the weight expects ", weight.value.shape().c * geometry.groups);
  const Shape y_shape = geometry.output(x.shape(), filters);
  FROST_CHECK(y_shape.h > 0 && y_shape.w > 0, "conv2d ", weight.name, ": input ", x.shape(), " is smaller than the kernel");
  count_convolution(context, x, geometry, filters, out, weight.trainable, false);
  Tensor y = place.tensor(context, y_shape, out);
  context.device.backend().conv_forward({.geometry = geometry,
                                         .x = x.value,
                                         .weight = {weight.value.f32(), weight.stamp},
                                         .bias = bias ? bias->value.f32() : nullptr,
                                         .activation = {},
                                         .y = y});
  if (!context.records(x, weight)) return {y, -1, nullptr};
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
                    const ConvGeometry& geometry, Activation activation, const Place& place) {
  FROST_CHECK(!context.records(x), "conv2d_constant: its input needs a gradient");
  const Shape y_shape = geometry.output(x.shape(), out_channels);
  FROST_CHECK(y_shape.h > 0 && y_shape.w > 0, "conv2d: input ", x.shape(), " is smaller than the kernel");
  count_convolution(context, x, geometry, out_channels, context.compute, false, true);
  Tensor y = place.tensor(context, y_shape, context.compute);
  context.device.backend().conv_forward(
      {.geometry = geometry, .x = x.value, .weight = weight, .bias = bias, .activation = activation, .y = y});
  return {y, -1, nullptr};
}

Var norm_act(Context& context, const Var& x, const NormOperands& norm, Activation activation, Residual residual,
             const Place& place) {
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
  Tensor y = place.tensor(context, x.shape(), x.value.dtype());
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
  node->x = x.value;  // the tensor itself, never a recipe: the recipe of y below is made from it
  if (x.value.storage().role() == Role::activation) x.value.storage().set_role(Role::saved_activation);
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
  if (residual.before_activation()) return result;
  remember(context, result,
           [&backend, forward, kept, mean, rstd,
            other = residual ? std::make_shared<Saved>(*residual.value) : nullptr](View target) {
             NormActForward again = forward;
             Tensor added;
             if (other) {
               added = other->get();
               again.residual = added;
             }
             again.y = target;
             backend.norm_act_forward(again);
           });
  return result;
}

Var activation(Context& context, const Var& x, Activation kind) {
  Tensor y(context.device, x.shape(), x.value.dtype());
  context.device.backend().activation_forward({.activation = kind, .x = x.value, .y = y});
  if (!context.records(x)) return {y, -1, nullptr};
  auto node = std::make_unique<ActivationNode>();
  node->x = Saved(x);
  node->kind = kind;
  const Saved input = node->x;
  Var result = context.tape->record(y, std::move(node), {&x});
  if (!x.origin)  // x is kept for backward anyway; a recipe from a recipe would only grow chains
    remember(context, result, [&backend = context.device.backend(), input, kind](View target) {
      const Tensor source = input.get();
      backend.activation_forward({.activation = kind, .x = source, .y = target});
    });
  return result;
}

Var as_type(Context& context, const Var& x, DType dtype) {
  if (x.value.dtype() == dtype) return x;
  Tensor y(context.device, x.shape(), dtype);
  context.device.backend().copy({.x = x.value, .y = y});
  if (!context.records(x)) return {y, -1, nullptr};
  auto node = std::make_unique<TypeNode>();
  node->x_dtype = x.value.dtype();
  return context.tape->record(y, std::move(node), {&x});
}

Var linear(Context& context, const Var& given, Parameter& weight, Parameter* bias) {
  const Shape in = weight.value.shape(), s = given.shape();
  FROST_CHECK(s.h == in.h && s.w == in.w && s.c == in.c, "linear ", weight.name, ": x is ", s, ", expected ",
              Shape{s.n, in.h, in.w, in.c});
  const Var x = as_type(context, given, DType::f32);
  FROST_CHECK(x.value.packed(), "linear ", weight.name, ": x is a channel slice");
  if (context.profile) context.profile->linear += s.n * weight.value.elements();
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

Var dropout(Context& context, const Var& x, float p, std::uint64_t seed) {
  FROST_CHECK(p >= 0 && p < 1, "dropout: p is ", p, ", expected 0 <= p < 1");
  if (!context.training || p == 0) return x;
  Tensor y(context.device, x.shape(), x.value.dtype());
  context.device.backend().dropout({.p = p, .seed = seed, .x = x.value, .y = y});
  if (!context.records(x)) return {y, -1, nullptr};
  auto node = std::make_unique<DropoutNode>();
  node->p = p;
  node->seed = seed;
  return context.tape->record(y, std::move(node), {&x});
}

Var average_pool(Context& context, const Var& x, std::int64_t height, std::int64_t width) {
  Tensor y(context.device, {x.shape().n, height, width, x.shape().c}, x.value.dtype());
  context.device.backend().adaptive_avg_pool_forward({.x = x.value, .y = y});
  if (!context.records(x)) return {y, -1, nullptr};
  auto node = std::make_unique<AveragePoolNode>();
  node->x_shape = x.shape();
  return context.tape->record(y, std::move(node), {&x});
}

Var add(Context& context, const Var& a, const Var& b, const Place& place) {
  FROST_CHECK(a.shape() == b.shape(), "add: shapes ", a.shape(), " and ", b.shape());
  Tensor y = place.tensor(context, a.shape(), a.value.dtype());
  context.device.backend().add({.a = a.value, .b = b.value, .y = y});
  if (!context.records(a) && !context.records(b)) return {y, -1, nullptr};
  return context.tape->record(y, std::make_unique<AddNode>(), {&a, &b});
}

Var max_pool(Context& context, const Var& x, PoolGeometry geometry, const Place& place) {
  const Shape y_shape = geometry.output(x.shape());
  FROST_CHECK(y_shape.h > 0 && y_shape.w > 0, "max_pool: input ", x.shape(), " is smaller than the window");
  Tensor y = place.tensor(context, y_shape, x.value.dtype());
  Backend& backend = context.device.backend();
  backend.max_pool_forward({.geometry = geometry, .x = x.value, .y = y});
  if (!context.records(x)) return {y, -1, nullptr};
  auto node = std::make_unique<MaxPoolNode>();
  node->x = Saved(x);
  node->geometry = geometry;
  const Saved input = node->x;
  Var result = context.tape->record(y, std::move(node), {&x});
  if (x.origin)  // otherwise the recipe would keep x alive longer than it saves
    remember(context, result, [&backend, input, geometry](View target) {
      const Tensor source = input.get();
      backend.max_pool_forward({.geometry = geometry, .x = source, .y = target});
    });
  return result;
}

Var upsample(Context& context, const Var& x, std::int64_t height, std::int64_t width, ResizeMode mode, const Place& place) {
  Tensor y = place.tensor(context, {x.shape().n, height, width, x.shape().c}, x.value.dtype());
  Backend& backend = context.device.backend();
  backend.resize_forward({.mode = mode, .x = x.value, .y = y});
  if (!context.records(x)) return {y, -1, nullptr};
  auto node = std::make_unique<UpsampleNode>();
  node->x_shape = x.shape();
  node->mode = mode;
  Var result = context.tape->record(y, std::move(node), {&x});
  if (x.origin)
    remember(context, result, [&backend, input = Saved(x), mode](View target) {
      const Tensor source = input.get();
      backend.resize_forward({.mode = mode, .x = source, .y = target});
    });
  return result;
}

Var zero_pad(Context& context, const Var& x, int left, int right, int top, int bottom) {
  const Shape& s = x.shape();
  Tensor y(context.device, {s.n, s.h + top + bottom, s.w + left + right, s.c}, x.value.dtype());
  context.device.backend().zero_pad_forward(
      {.x = x.value, .y = y, .left = left, .right = right, .top = top, .bottom = bottom});
  if (!context.records(x)) return {y, -1, nullptr};
  auto node = std::make_unique<ZeroPadNode>();
  node->x_shape = s;
  node->left = left, node->right = right, node->top = top, node->bottom = bottom;
  return context.tape->record(y, std::move(node), {&x});
}

Var space_to_depth(Context& context, const Var& x) {
  const Shape& s = x.shape();
  FROST_CHECK(s.h % 2 == 0 && s.w % 2 == 0, "space_to_depth: sides of ", s, " must be even");
  Tensor y(context.device, {s.n, s.h / 2, s.w / 2, 4 * s.c}, x.value.dtype());
  context.device.backend().space_to_depth({.x = x.value, .y = y});
  if (!context.records(x)) return {y, -1, nullptr};
  auto node = std::make_unique<SpaceToDepthNode>();
  node->x_shape = s;
  return context.tape->record(y, std::move(node), {&x});
}

Var concat(Context& context, const std::vector<Var>& parts, Tensor joined) {
  FROST_CHECK(!parts.empty(), "concat: nothing to join");
  Shape shape = parts[0].shape();
  shape.c = 0;
  for (const Var& part : parts) {
    FROST_CHECK(part.shape().n == shape.n && part.shape().h == shape.h && part.shape().w == shape.w,
                "concat: part of shape ", part.shape(), " beside ", parts[0].shape());
    shape.c += part.shape().c;
  }
  if (!joined) joined = Tensor(context.device, shape, parts[0].value.dtype());
  FROST_CHECK(joined.shape() == shape, "concat: parts make ", shape, ", the buffer is ", joined.shape());
  Backend& backend = context.device.backend();

  auto node = std::make_unique<ConcatNode>();
  bool recorded = false, repeatable = true;
  std::vector<const Var*> inputs;
  std::int64_t first = 0;
  for (const Var& part : parts) {
    const Tensor slice = joined.channels(first, part.shape().c);
    const bool in_place = part.value.data() == slice.data();
    if (!in_place) backend.copy({.x = part.value, .y = slice});
    recorded |= context.records(part);
    repeatable &= part.origin || !in_place;  // a slice without a recipe would keep the whole buffer alive anyway
    node->channels.push_back(part.shape().c);
    inputs.push_back(&part);
    first += part.shape().c;
  }
  if (!recorded) return {joined, -1, nullptr};
  Var result = context.tape->record(joined, std::move(node), inputs);
  if (repeatable && context.tape->recompute()) {
    auto sources = std::make_shared<std::vector<Saved>>();
    for (const Var& part : parts) sources->emplace_back(part);
    remember(context, result, [sources](View target) {
      std::int64_t at = 0;
      for (const Saved& source : *sources) {
        source.write(target.channels(at, source.shape().c));
        at += source.shape().c;
      }
    });
  }
  return result;
}

Concatenation::Concatenation(Context& context, const Shape& pixels, std::vector<std::int64_t> channels)
    : context_(context), channels_(std::move(channels)) {
  Shape shape = pixels;
  shape.c = std::accumulate(channels_.begin(), channels_.end(), std::int64_t{0});
  joined_ = Tensor(context.device, shape, context.compute);
}

Place Concatenation::place(std::size_t part) const {
  const std::int64_t first =
      std::accumulate(channels_.begin(), channels_.begin() + static_cast<std::ptrdiff_t>(part), std::int64_t{0});
  return {joined_.channels(first, channels_[part])};
}

}  // namespace frost
