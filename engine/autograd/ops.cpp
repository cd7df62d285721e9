#include "engine/autograd/ops.h"

#include <numeric>

#include "engine/autograd/rematerialize.h"
#include "kernels/checks.h"

/// The operators without weights.
namespace frost {
namespace {

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

}  // namespace

Var activation(Context& context, const Var& x, Activation kind) {
  Tensor y(context.device, x.shape(), x.value.dtype());
  context.device.backend().activation_forward({.activation = kind, .x = x.value, .y = y});
  if (!context.records(x)) return {y, -1, nullptr};
  auto node = std::make_unique<ActivationNode>();
  node->x = Saved(x);
  node->kind = kind;
  Var result = context.tape->record(y, std::move(node), {&x});
  if (!x.rematerialization)  // x is kept for backward anyway; one that starts from another would only grow chains
    make_rematerializable(context, result, {Saved::source(x)},
                          [&backend = context.device.backend(), kind](View target, const std::vector<Saved>& sources) {
                            const Tensor source = sources[0].get();
                            backend.activation_forward({.activation = kind, .x = source, .y = target});
                          });
  return result;
}

namespace {

struct TypeNode final : Node {
  DType x_dtype;
  const char* name() const override { return "as_type"; }
  Grads backward(Tensor dy) override {
    Tensor dx(dy.device(), dy.shape(), x_dtype);
    dy.backend().copy({.x = dy, .y = dx});
    return {dx};
  }
};

}  // namespace

Var as_type(Context& context, const Var& x, DType dtype) {
  if (x.value.dtype() == dtype) return x;
  Tensor y(context.device, x.shape(), dtype);
  context.device.backend().copy({.x = x.value, .y = y});
  if (!context.records(x)) return {y, -1, nullptr};
  auto node = std::make_unique<TypeNode>();
  node->x_dtype = x.value.dtype();
  return context.tape->record(y, std::move(node), {&x});
}

namespace {

const std::uint64_t* step_seed(const Tensor& seed) {
  return seed ? static_cast<const std::uint64_t*>(seed.data()) : nullptr;
}

struct DropoutNode final : Node {
  float p;
  std::uint64_t seed;
  Tensor of_step;
  const char* name() const override { return "dropout"; }
  Grads backward(Tensor dy) override {
    Tensor dx = may_overwrite(dy) ? dy : Tensor(dy.device(), dy.shape(), dy.dtype());
    dy.backend().dropout({.p = p, .seed = seed, .step_seed = step_seed(of_step), .x = dy, .y = dx});
    return {dx};
  }
};

}  // namespace

Var dropout(Context& context, const Var& x, float p, std::uint64_t seed) {
  FROST_CHECK(p >= 0 && p < 1, "dropout: p is ", p, ", expected 0 <= p < 1");
  if (!context.training || p == 0) return x;
  Tensor y(context.device, x.shape(), x.value.dtype());
  context.device.backend().dropout({.p = p, .seed = seed, .step_seed = step_seed(context.seed), .x = x.value, .y = y});
  if (!context.records(x)) return {y, -1, nullptr};
  auto node = std::make_unique<DropoutNode>();
  node->p = p;
  node->seed = seed;
  node->of_step = context.seed;
  return context.tape->record(y, std::move(node), {&x});
}

namespace {

struct AddNode final : Node {
  const char* name() const override { return "add"; }
  Grads backward(Tensor dy) override { return {dy, dy}; }
};

}  // namespace

Var add(Context& context, const Var& a, const Var& b, const Output& output) {
  FROST_CHECK(a.shape() == b.shape(), "add: shapes ", a.shape(), " and ", b.shape());
  Tensor y = output.tensor(context, a.shape(), a.value.dtype());
  context.device.backend().add({.a = a.value, .b = b.value, .y = y});
  if (!context.records(a) && !context.records(b)) return {y, -1, nullptr};
  return context.tape->record(y, std::make_unique<AddNode>(), {&a, &b});
}

namespace {

struct MulNode final : Node {
  Saved a, b;  // each only where the other's gradient is wanted
  Shape b_shape;
  const char* name() const override { return "mul"; }
  Grads backward(Tensor dy) override {
    Tensor da, db;
    if (wanted(0)) da = Tensor(dy.device(), dy.shape(), dy.dtype());
    if (wanted(1)) db = Tensor(dy.device(), b_shape, dy.dtype());
    const Tensor left = wanted(1) ? a.get() : dy, right = wanted(0) ? b.get() : db;  // else only the shape is read
    dy.backend().mul_backward(
        {.a = left, .b = right, .dy = dy, .da = da ? da.view() : View{}, .db = db ? db.view() : View{}});
    return {da, db};
  }
};

}  // namespace

Var mul(Context& context, const Var& a, const Var& b) {
  Tensor y(context.device, a.shape(), a.value.dtype());
  Backend& backend = context.device.backend();
  backend.mul_forward({.a = a.value, .b = b.value, .y = y});
  if (!context.records(a) && !context.records(b)) return {y, -1, nullptr};
  auto node = std::make_unique<MulNode>();
  if (b.needs_grad()) node->a = Saved(a);
  if (a.needs_grad()) node->b = Saved(b);
  node->b_shape = b.shape();
  Var result = context.tape->record(y, std::move(node), {&a, &b});
  if (a.rematerialization)
    make_rematerializable(context, result, {Saved::source(a), Saved::source(b)},
                          [&backend](View target, const std::vector<Saved>& sources) {
                            const Tensor left = sources[0].get(), right = sources[1].get();
                            backend.mul_forward({.a = left, .b = right, .y = target});
                          });
  return result;
}

namespace {

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

}  // namespace

Var max_pool(Context& context, const Var& x, PoolGeometry geometry, const Output& output) {
  check_windows("max_pool", geometry, x.shape());
  Tensor y = output.tensor(context, geometry.output(x.shape()), x.value.dtype());
  Backend& backend = context.device.backend();
  backend.max_pool_forward({.geometry = geometry, .x = x.value, .y = y});
  if (!context.records(x)) return {y, -1, nullptr};
  auto node = std::make_unique<MaxPoolNode>();
  node->x = Saved(x);
  node->geometry = geometry;
  Var result = context.tape->record(y, std::move(node), {&x});
  if (x.rematerialization)  // otherwise the rematerialization would keep x longer, which costs more than it saves
    make_rematerializable(context, result, {Saved::source(x)},
                          [&backend, geometry](View target, const std::vector<Saved>& sources) {
                            const Tensor source = sources[0].get();
                            backend.max_pool_forward({.geometry = geometry, .x = source, .y = target});
                          });
  return result;
}

namespace {

struct AveragePoolNode final : Node {
  Shape x_shape;
  const char* name() const override { return "average_pool"; }
  Grads backward(Tensor dy) override {
    Tensor dx(dy.device(), x_shape, dy.dtype());
    dy.backend().adaptive_avg_pool_backward({.dy = dy, .dx = dx});
    return {dx};
  }
};

}  // namespace

Var average_pool(Context& context, const Var& x, std::int64_t height, std::int64_t width) {
  Tensor y(context.device, {x.shape().n, height, width, x.shape().c}, x.value.dtype());
  context.device.backend().adaptive_avg_pool_forward({.x = x.value, .y = y});
  if (!context.records(x)) return {y, -1, nullptr};
  auto node = std::make_unique<AveragePoolNode>();
  node->x_shape = x.shape();
  return context.tape->record(y, std::move(node), {&x});
}

namespace {

struct WindowMeanNode final : Node {
  Shape x_shape;
  PoolGeometry geometry;
  bool count_include_pad;
  const char* name() const override { return "average_pool"; }
  Grads backward(Tensor dy) override {
    Tensor dx(dy.device(), x_shape, dy.dtype());
    dy.backend().avg_pool_backward({.geometry = geometry, .count_include_pad = count_include_pad, .dy = dy, .dx = dx});
    return {dx};
  }
};

}  // namespace

Var average_pool(Context& context, const Var& x, PoolGeometry geometry, bool count_include_pad, const Output& output) {
  check_windows("average_pool", geometry, x.shape());
  Tensor y = output.tensor(context, geometry.output(x.shape()), x.value.dtype());
  Backend& backend = context.device.backend();
  backend.avg_pool_forward({.geometry = geometry, .count_include_pad = count_include_pad, .x = x.value, .y = y});
  if (!context.records(x)) return {y, -1, nullptr};
  auto node = std::make_unique<WindowMeanNode>();
  node->x_shape = x.shape();
  node->geometry = geometry;
  node->count_include_pad = count_include_pad;
  Var result = context.tape->record(y, std::move(node), {&x});
  if (x.rematerialization)
    make_rematerializable(
        context, result, {Saved::source(x)},
        [&backend, geometry, count_include_pad](View target, const std::vector<Saved>& sources) {
          const Tensor source = sources[0].get();
          backend.avg_pool_forward({.geometry = geometry, .count_include_pad = count_include_pad, .x = source, .y = target});
        });
  return result;
}

namespace {

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

}  // namespace

Var upsample(Context& context, const Var& x, std::int64_t height, std::int64_t width, ResizeMode mode,
             const Output& output) {
  Tensor y = output.tensor(context, {x.shape().n, height, width, x.shape().c}, x.value.dtype());
  Backend& backend = context.device.backend();
  backend.resize_forward({.mode = mode, .x = x.value, .y = y});
  if (!context.records(x)) return {y, -1, nullptr};
  auto node = std::make_unique<UpsampleNode>();
  node->x_shape = x.shape();
  node->mode = mode;
  Var result = context.tape->record(y, std::move(node), {&x});
  if (x.rematerialization)
    make_rematerializable(context, result, {Saved::source(x)},
                          [&backend, mode](View target, const std::vector<Saved>& sources) {
                            const Tensor source = sources[0].get();
                            backend.resize_forward({.mode = mode, .x = source, .y = target});
                          });
  return result;
}

namespace {

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

}  // namespace

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

namespace {

struct SpaceToDepthNode final : Node {
  Shape x_shape;
  const char* name() const override { return "space_to_depth"; }
  Grads backward(Tensor dy) override {
    Tensor dx(dy.device(), x_shape, dy.dtype());
    dy.backend().depth_to_space({.x = dy, .y = dx});
    return {dx};
  }
};

}  // namespace

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

namespace {

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
    repeatable &=
        part.rematerialization || !in_place;  // a slice without a rematerialization would keep the whole buffer anyway
    node->channels.push_back(part.shape().c);
    inputs.push_back(&part);
    first += part.shape().c;
  }
  if (!recorded) return {joined, -1, nullptr};
  Var result = context.tape->record(joined, std::move(node), inputs);
  if (repeatable && context.tape->recompute()) {
    std::vector<Saved> sources;
    for (const Var& part : parts) sources.push_back(Saved::source(part));
    make_rematerializable(context, result, std::move(sources), [](View target, const std::vector<Saved>& sources) {
      std::int64_t at = 0;
      for (const Saved& source : sources) {
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

Output Concatenation::output(std::size_t part) const {
  const std::int64_t first =
      std::accumulate(channels_.begin(), channels_.begin() + static_cast<std::ptrdiff_t>(part), std::int64_t{0});
  return {joined_.channels(first, channels_[part])};
}

}  // namespace frost
