#include "kernels/cuda/convolution/conv_key.h"

#include "kernels/error.h"

namespace frost::cuda {
namespace {

std::int64_t rounded_up(std::int64_t n, std::int64_t to) { return (n + to - 1) / to * to; }

}  // namespace

const char* name_of(ConvPass pass) {
  switch (pass) {
    case ConvPass::forward:
      return "forward";
    case ConvPass::backward_data:
      return "backward_data";
    default:
      return "backward_weight";
  }
}

std::ostream& operator<<(std::ostream& out, const ConvKey& k) {
  const ConvGeometry& g = k.geometry;
  out << name_of(k.pass) << ' ' << name_of(k.dtype) << ' ' << g.kernel_h << 'x' << g.kernel_w << '/' << g.stride_h;
  if (g.groups > 1) out << " in " << g.groups << " groups";
  if (g.dilation_h > 1) out << " dilation " << g.dilation_h;
  out << ' ' << k.x << " -> " << k.y;
  if (k.bias) out << " + bias";
  if (k.activation.kind != ActivationKind::identity) out << " + activation";
  return out;
}

std::string identifier(const ConvKey& k) {
  const ConvGeometry& g = k.geometry;
  return detail::join(name_of(k.pass), '/', name_of(k.dtype), "/k", g.kernel_h, 'x', g.kernel_w, "/s", g.stride_h, 'x',
                      g.stride_w, "/p", g.pad_h, 'x', g.pad_w, "/d", g.dilation_h, 'x', g.dilation_w, "/g", g.groups, '/',
                      k.x, '/', k.y, "/b", k.bias, "/a", static_cast<int>(k.activation.kind), ':', k.activation.slope, "/m",
                      k.alignment, "/t", k.tf32, "/r", k.deterministic);
}

ConvKey conv_key(ConvPass pass, const ConvGeometry& geometry, const Shape& x, const Shape& y, DType dtype, bool tf32,
                 bool deterministic) {
  ConvKey key{.pass = pass, .geometry = geometry, .x = x, .y = y, .dtype = dtype, .deterministic = deterministic};
  key.tf32 = tf32 && dtype == DType::f32;
  key.activation.slope = 0;
  const std::int64_t multiple = dtype != DType::f32 ? 8 : key.tf32 ? 4 : 1;
  const bool depthwise = geometry.groups > 1 && x.c == geometry.groups && y.c == geometry.groups;
  if (geometry.groups == 1 || depthwise) {
    key.x.c = rounded_up(x.c, multiple);
    key.y.c = rounded_up(y.c, multiple);
    if (depthwise) key.geometry.groups = static_cast<int>(key.x.c);
  }
  return key;
}

DType bias_type(const ConvKey& key) {
  const ActivationKind kind = key.activation.kind;
  return kind == ActivationKind::identity || kind == ActivationKind::relu ? key.dtype : DType::f32;
}

bool fuses(const Activation& activation) {
  using enum ActivationKind;
  const ActivationKind kind = activation.kind;
  return kind != hardswish && kind != mish && kind != relu6 && kind != hardsigmoid;
}

ConvCost cost(const ConvKey& k) {
  const Shape f = k.filters();
  return {2.0 * static_cast<double>(k.y.elements()) * static_cast<double>(f.h * f.w * f.c),
          static_cast<double>(k.x.elements() + k.y.elements() + f.elements()) * static_cast<double>(size_of(k.dtype))};
}

}  // namespace frost::cuda
