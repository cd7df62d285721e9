#pragma once
#include <cstring>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cuda/convolution/conv_call.h"
#include "kernels/cuda/convolution/filter_cache.h"
#include "tests/kernels/host_launch.h"

namespace frost::cuda {

/// Stands in for cuDNN: computes what a key says, on the CPU backend in f32, and rounds the result to the key's type.
class HostConvRunner {
 public:
  HostConvRunner(const HostLaunch& launch, Backend& cpu, bool fuses = true) : launch_(launch), cpu_(cpu), fuses_(fuses) {}

  bool offers(const ConvKey&) const { return fuses_; }
  std::size_t workspace(const ConvKey&) const { return kWorkspace; }

  void* filters(const Filters& filters, const Shape& shape, const ConvKey& key, void* room) {
    kept.begin_call(0);
    return kept.find(launch_, filters, shape, key, room);
  }

  void run(const ConvKey& k, const ConvPointers& p, void* workspace) {
    std::memset(workspace, 0x5a, kWorkspace);
    for (const void* pointer : {p.x, p.y, p.filters, p.bias}) {
      const auto address = reinterpret_cast<std::uintptr_t>(pointer);
      FROST_CHECK(address % static_cast<std::uintptr_t>(k.alignment) == 0, "an operand is less aligned than its key says");
    }
    ++runs;
    fused += k.bias;
    std::vector<float> x(count(k.x)), y(count(k.y)), filters(count(k.filters()));
    const auto xs = packed_view(x.data(), k.x), ys = packed_view(y.data(), k.y);
    if (k.pass != ConvPass::backward_data) read(p.x, k.dtype, x);
    if (k.pass != ConvPass::forward) read(p.y, k.dtype, y);
    if (k.pass != ConvPass::backward_weight) read(p.filters, k.dtype, filters);
    if (k.pass == ConvPass::forward) {
      std::vector<float> bias(static_cast<std::size_t>(k.y.c));
      if (k.bias) read(p.bias, bias_type(k), bias);
      cpu_.conv_forward({.geometry = k.geometry,
                         .x = xs,
                         .weight = {filters.data(), 0},
                         .bias = k.bias ? bias.data() : nullptr,
                         .activation = k.activation,
                         .y = ys});
      write(p.y, k.dtype, y);
    } else if (k.pass == ConvPass::backward_data) {
      cpu_.conv_backward_data({.geometry = k.geometry, .dy = ys, .weight = {filters.data(), 0}, .dx = xs});
      write(p.x, k.dtype, x);
    } else {
      cpu_.conv_backward_weight({.geometry = k.geometry, .x = xs, .dy = ys, .dweight = filters.data()});
      write(p.filters, k.dtype, filters);
    }
  }

  int runs = 0, fused = 0;
  FilterCache kept;

 private:
  static constexpr std::size_t kWorkspace = 100;

  static std::size_t count(const Shape& s) { return static_cast<std::size_t>(s.elements()); }
  static void read(const void* from, DType type, std::vector<float>& to) {
    with_float(type, "conv2d", [&]<class T>(T) {
      for (std::size_t i = 0; i < to.size(); ++i) to[i] = math::to_float(static_cast<const T*>(from)[i]);
    });
  }
  static void write(void* to, DType type, const std::vector<float>& from) {
    with_float(type, "conv2d", [&]<class T>(T) {
      for (std::size_t i = 0; i < from.size(); ++i) static_cast<T*>(to)[i] = math::from_float<T>(from[i]);
    });
  }

  const HostLaunch& launch_;
  Backend& cpu_;
  bool fuses_;
};

}  // namespace frost::cuda
