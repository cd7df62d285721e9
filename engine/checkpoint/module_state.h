#pragma once
#include <functional>
#include <string>
#include <vector>

#include "engine/checkpoint/host_tensor.h"
#include "engine/nn/module.h"

namespace frost {

/// Values in PyTorch's order of dimensions: OHWI weights of convolutions become OIHW, those of a linear layer that reads
/// (h, w, c) maps (out, c * h * w); everything else is as it is.
HostTensor to_host(const Tensor& value, const std::vector<std::int64_t>& torch_shape);
/// The inverse; shapes must agree.
void from_host(const HostTensor& source, const std::vector<std::int64_t>& torch_shape, Tensor& target);

/// A parameter's mask as a state dict holds it, u8, under its name with ".mask" after (sparse_checkpoint.h).
HostTensor mask_to_host(const Parameter& parameter);

/// Parameters (each followed by its mask, where it has one), buffers and counters of a module tree, in state-dict order, f32
/// and i64.
StateDict state_of(Module& module);

struct LoadReport {
  std::size_t copied = 0, total = 0;     // tensors of the module
  std::vector<std::string> missing;      // of the module, not in the source
  std::vector<std::string> other_shape;  // in both, but of different shapes: "name: 255x128x1x1 in the file, 24x... here"
  std::vector<std::string> unexpected;   // of the source, not in the module
};
/// Copies each tensor of `source` whose name exists in the module with the same shape, unless `skip` says otherwise. A
/// parameter's mask is copied too; without a mask in the source it is dense.
LoadReport load_state(Module& module, const StateDict& source, const std::function<bool(const std::string&)>& skip = {});

}  // namespace frost
