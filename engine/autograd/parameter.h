#pragma once
#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "engine/tensor/tensor.h"

namespace frost {

/// A new name for the contents of a tensor; never used twice in a process. See Filters::version.
inline std::uint64_t new_version() {
  static std::atomic<std::uint64_t> last{0};
  return ++last;
}

/// A value that training may change. A frozen one (`trainable` false) has no gradient and no optimizer state, and nothing
/// is saved for it. Convolution weights are kept OHWI; `torch_shape` is its shape in a PyTorch state dict.
struct Parameter {
  std::string name;  // the PyTorch state-dict name, for example model.0.conv.weight
  std::vector<std::int64_t> torch_shape;
  Tensor value;  // f32
  Tensor grad;   // f32, same shape; empty where frozen or not yet in an arena
  Tensor mask;   // 0 or 1, same shape; empty: dense
  bool trainable = true;
  float lr_scale = 1;                     // its learning rate is the schedule's times this
  std::uint64_t version = new_version();  // changes with every change of `value`

  void touch() { version = new_version(); }
  /// Where backward adds this parameter's gradient; made (zeroed) at the first call if no arena has given one.
  float* grad_f32();
};

}  // namespace frost
