#pragma once
#include <algorithm>

#include "kernels/cuda/convolution/conv_kernels.cuh"
#include "kernels/cuda/convolution/conv_key.h"

/// From the calls of kernels/conv.h to cuDNN's arguments: which operands go through scratch, what is fused, how results are
/// copied back. Templates over the launcher (kernel_launch.cuh) and over the runner of keys, so the tests cover everything
/// except cuDNN.
namespace frost::cuda {

/// Runs keys. ConvEngine's finds plans of cuDNN; the tests' computes on the host.
///   bool offers(const ConvKey& fused);               // can it, and soon enough? Unfused keys it always can.
///   std::size_t workspace(const ConvKey&);           // bytes, at most
///   void run(const ConvKey&, const ConvPointers&, void* workspace);
///   void* filters(const Filters&, const Shape&, const ConvKey&, void* room);  // in the key's form: kept, or made in `room`
template <class Launcher, class Runner>
class ConvCalls {
 public:
  ConvCalls(const Launcher& launch, Runner& runner, bool tf32, bool deterministic)
      : launch_(launch), runner_(runner), tf32_(tf32), deterministic_(deterministic) {}

  void forward(const ConvForward& a) const {
    check("conv2d", a.geometry, a.x, a.y);
    if (a.y.shape.elements() == 0) return;
    ConvKey key = conv_key(ConvPass::forward, a.geometry, a.x.shape, a.y.shape, a.x.dtype, tf32_, deterministic_);
    const Shape filters = filter_shape(a.geometry, a.x, a.y);
    Layout layout;
    Operand x(a.x, key.x, key.dtype, layout), y(a.y, key.y, key.dtype, layout);
    const bool lie = as_they_lie(key, filters);
    key.alignment = std::min({x.alignment(), y.alignment(), lie ? alignment_of(a.weight.data) : kAligned});

    // A result that our kernel copies back anyway gets its bias and activation in that copy.
    if (a.bias && !y.staged && fuses(a.activation)) {
      ConvKey fused = key;
      fused.bias = true;
      fused.activation.kind = a.activation.kind;
      if (a.activation.kind == ActivationKind::leaky_relu) fused.activation.slope = a.activation.slope;
      if (runner_.offers(fused)) key = fused;
    }
    const std::size_t filters_at = layout.take(lie ? 0 : bytes_of(key.filters(), key.dtype));
    const Shape channels{1, 1, 1, a.y.shape.c};
    const bool bias_lies = key.bias && bias_type(key) == DType::f32 && alignment_of(a.bias) >= key.alignment;
    const std::size_t bias_at = layout.take(key.bias && !bias_lies ? bytes_of(channels, bias_type(key)) : 0);
    const std::size_t workspace_at = layout.take(runner_.workspace(key));
    char* base = static_cast<char*>(launch_.scratch(layout.bytes));

    x.place(base);
    y.place(base);
    if (x.staged) pack(launch_, a.x, x.inner);
    ConvPointers pointers{.x = x.inner.data, .y = y.inner.data};
    pointers.filters = lie ? const_cast<float*>(a.weight.data) : runner_.filters(a.weight, filters, key, base + filters_at);
    if (key.bias) {
      pointers.bias = bias_lies ? const_cast<float*>(a.bias) : static_cast<void*>(base + bias_at);
      if (!bias_lies) pack(launch_, packed_view(a.bias, channels), packed_view(pointers.bias, channels, bias_type(key)));
    }
    runner_.run(key, pointers, base + workspace_at);
    const bool activated = a.activation.kind != ActivationKind::identity;
    if (y.staged || (!key.bias && (a.bias || activated))) deliver(launch_, y.inner, a.bias, a.activation, a.y);
  }

  void backward_data(const ConvBackwardData& a) const {
    check("conv2d backward", a.geometry, a.dx, a.dy);
    if (a.dx.shape.elements() == 0) return;
    ConvKey key = conv_key(ConvPass::backward_data, a.geometry, a.dx.shape, a.dy.shape, a.dx.dtype, tf32_, deterministic_);
    const Shape filters = filter_shape(a.geometry, a.dx, a.dy);
    Layout layout;
    Operand dx(a.dx, key.x, key.dtype, layout), dy(a.dy, key.y, key.dtype, layout);
    const bool lie = as_they_lie(key, filters);
    key.alignment = std::min({dx.alignment(), dy.alignment(), lie ? alignment_of(a.weight.data) : kAligned});
    const std::size_t filters_at = layout.take(lie ? 0 : bytes_of(key.filters(), key.dtype));
    const std::size_t workspace_at = layout.take(runner_.workspace(key));
    char* base = static_cast<char*>(launch_.scratch(layout.bytes));

    dx.place(base);
    dy.place(base);
    if (dy.staged) pack(launch_, a.dy, dy.inner);
    ConvPointers pointers{.x = dx.inner.data, .y = dy.inner.data};
    pointers.filters = lie ? const_cast<float*>(a.weight.data) : runner_.filters(a.weight, filters, key, base + filters_at);
    runner_.run(key, pointers, base + workspace_at);
    if (dx.staged) deliver(launch_, dx.inner, nullptr, {}, a.dx);
  }

  /// cuDNN has no engine with f32 gradients of 16-bit tensors: they are 16-bit and are added to the f32 ones here. With f16
  /// and a loss scale they may overflow to infinity. It stays infinite, so that the scaler detects it.
  void backward_weight(const ConvBackwardWeight& a) const {
    check("conv2d backward", a.geometry, a.x, a.dy);
    ConvKey key = conv_key(ConvPass::backward_weight, a.geometry, a.x.shape, a.dy.shape, a.x.dtype, tf32_, deterministic_);
    const Shape filters = filter_shape(a.geometry, a.x, a.dy), padded = key.filters();
    FROST_CHECK(a.dy.shape.elements() > 0, "conv2d backward: dy ", a.dy.shape, " is empty");
    Layout layout;
    Operand x(a.x, key.x, key.dtype, layout), dy(a.dy, key.y, key.dtype, layout);
    const bool direct = as_they_lie(key, filters) && !a.accumulate;
    key.alignment = std::min({x.alignment(), dy.alignment(), direct ? alignment_of(a.dweight) : kAligned});
    const std::size_t dweight_at = layout.take(direct ? 0 : bytes_of(padded, key.dtype));
    const std::size_t sums_at = layout.take(a.dbias ? bytes_of({1, 1, 1, partial_sums(a.dy)}, DType::f32) : 0);
    const std::size_t workspace_at = layout.take(runner_.workspace(key));
    char* base = static_cast<char*>(launch_.scratch(layout.bytes));

    x.place(base);
    dy.place(base);
    if (x.staged) pack(launch_, a.x, x.inner);
    if (dy.staged) pack(launch_, a.dy, dy.inner);
    void* dweight = direct ? static_cast<void*>(a.dweight) : base + dweight_at;
    runner_.run(key, {.x = x.inner.data, .y = dy.inner.data, .filters = dweight}, base + workspace_at);
    if (!direct)
      deliver_filters(launch_, packed_view(dweight, padded, key.dtype), packed_view(a.dweight, filters), a.accumulate);
    if (a.dbias) sum_channels(launch_, a.dy, reinterpret_cast<float*>(base + sums_at), a.dbias, a.accumulate);
  }

 private:
  static constexpr int kAligned = 16;  // bytes; as the loads of tensor cores need

  static int alignment_of(const void* p) {
    const auto address = reinterpret_cast<std::uintptr_t>(p);
    return address % 16 == 0 ? 16 : address % 8 == 0 ? 8 : 4;
  }
  static std::size_t bytes_of(const Shape& shape, DType type) {
    return static_cast<std::size_t>(shape.elements()) * size_of(type);
  }
  /// The caller's filters: (out, rows, columns, in channels of a group).
  static Shape filter_shape(const ConvGeometry& g, const ConstView& x, const ConstView& y) {
    return {y.shape.c, g.kernel_h, g.kernel_w, x.shape.c / g.groups};
  }
  /// f32 filters that need no padding are read, and their gradients written, in place.
  static bool as_they_lie(const ConvKey& key, const Shape& filters) {
    return key.dtype == DType::f32 && key.filters() == filters;
  }
  static void check(const char* what, const ConvGeometry& g, const ConstView& x, const ConstView& y) {
    FROST_CHECK(x.shape.c % g.groups == 0 && y.shape.c % g.groups == 0, what, ": ", x.shape.c, " and ", y.shape.c,
                " channels do not divide into ", g.groups, " groups");
    FROST_CHECK(g.output(x.shape, y.shape.c) == y.shape, what, ": y is ", y.shape, ", x ", x.shape, " gives ",
                g.output(x.shape, y.shape.c));
  }

  /// Assigns offsets in scratch before it is allocated.
  struct Layout {
    std::size_t bytes = 0;
    std::size_t take(std::size_t size) {
      const std::size_t at = bytes;
      bytes += (size + 255) / 256 * 256;
      return at;
    }
  };

  /// One operand: the caller's memory where it is packed and has the key's channels and type, else a place in scratch.
  struct Operand {
    View inner;  // as cuDNN sees it, once it has an address
    bool staged;
    std::size_t at = 0;

    Operand(const ConstView& caller, const Shape& shape, DType type, Layout& layout)
        : inner{const_cast<void*>(caller.data), shape, type, shape.c} {
      staged = caller.shape != shape || !caller.packed() || caller.dtype != type ||
               (type != DType::f32 && alignment_of(caller.data) < kAligned);
      if (staged) at = layout.take(bytes_of(shape, type));
    }
    void place(char* scratch) {
      if (staged) inner.data = scratch + at;
    }
    int alignment() const { return staged ? kAligned : alignment_of(inner.data); }
  };

  const Launcher& launch_;
  Runner& runner_;
  bool tf32_, deterministic_;
};

}  // namespace frost::cuda
