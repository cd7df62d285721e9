#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kernels/backend.h"

namespace frost {

/// The primitives of backend.h by name, in its order; memory's own first.
enum class Primitive : std::uint8_t {
  upload,
  download,
  zero,
  conv_forward,
  conv_backward_data,
  conv_backward_weight,
  linear_forward,
  linear_backward,
  batch_statistics,
  norm_act_forward,
  norm_act_backward,
  max_pool_forward,
  max_pool_backward,
  avg_pool_forward,
  avg_pool_backward,
  adaptive_avg_pool_forward,
  adaptive_avg_pool_backward,
  resize_forward,
  resize_backward,
  copy,
  add,
  mul_forward,
  mul_backward,
  activation_forward,
  activation_backward,
  zero_pad_forward,
  zero_pad_backward,
  space_to_depth,
  depth_to_space,
  normalize_image,
  dropout,
  softmax_forward,
  softmax_backward,
  cross_entropy,
  detect_loss,
  detect_decode,
  nms,
  sum_of_squares,
  prepare_step,
  sgd_step,
  adam_step,
  ema_update
};
const char* name_of(Primitive primitive);

/// One call of a primitive, as it was asked for.
struct PrimitiveCall {
  Primitive primitive;
  /// Two for each multiply-add of a convolution or linear layer, by what is computed; zero for every other primitive: those
  /// are bound by memory, so their bytes say what they cost.
  std::int64_t forward_flops = 0, dgrad_flops = 0, wgrad_flops = 0;
  std::int64_t bytes = 0;           // of all operands, each counted once
  std::int64_t window_values = 0;   // what the windows of a max pool's outputs hold together
  std::vector<std::int64_t> key{};  // shapes, pitches, types, geometry: equal keys do equal work
  double seconds = 0;               // where a device ran it: its time there

  using Memory = std::function<void*(std::size_t bytes)>;
  /// On a meta device: the same call on real memory, which can be repeated to time a single primitive.
  std::function<std::function<void()>(Backend&, const Memory&)> bind{};
};
using CallObserver = std::function<void(const PrimitiveCall&)>;

/// A meta device: it computes nothing. Memory is address space without memory behind it, so the largest model costs
/// nothing. Uploads are dropped, downloads are zeros. All code above the kernels runs on it unchanged, so the bytes of a
/// training step are exact before the first step runs. Types and workspace sizes are those of `like`, which must outlive
/// it.
std::unique_ptr<Backend> make_meta_backend(const Backend& like, CallObserver observer);
/// True for such a device: data to upload need not exist.
bool is_meta(const Backend& backend);

/// Wraps `inner`: the observer gets each call after it ran, with its time. `inner` must outlive it.
std::unique_ptr<Backend> make_watched_backend(Backend& inner, CallObserver observer);

}  // namespace frost
