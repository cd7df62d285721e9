#pragma once
#include <cstdint>
#include <filesystem>
#include <string>

#include "engine/checkpoint/safetensors.h"

namespace frost {

/// Checkpoints of pruned models. In memory a masked weight X is two tensors of a state dict: X with its zeros, and X.mask,
/// u8, 1 where a value stays. In the file they are sparse, without loss:
///   X.values  the values that stay, in row-major order, in X's type
///   X.bits    u8, element i's mask at bit i % 8 of byte i / 8; unused bits are 0
/// and the metadata key "frost.packed" gives X's shape: {"model.0.conv.weight": [16, 3, 6, 6], ...}. What is not in `values`
/// is +0. docs/pruning.md describes it for readers in other languages.
inline constexpr const char* kMaskSuffix = ".mask";

/// The file's form: every X that has an X.mask as a sparse tensor. Throws Error where a masked value is not zero.
SafetensorsFile sparse_form(const SafetensorsFile& dense);
/// The inverse; a file that holds nothing sparse comes back as it is. Throws Error naming the tensor and what is wrong.
SafetensorsFile dense_form(SafetensorsFile file);
/// The values alone, as any reader of safetensors understands them: without the masks.
StateDict without_masks(const StateDict& state);

/// read_safetensors and write_safetensors for checkpoints: masked weights are sparse in the file.
SafetensorsFile read_checkpoint(const std::filesystem::path& path);
void write_checkpoint(const std::filesystem::path& path, const StateDict& tensors, const Metadata& metadata = {});
/// The size in bytes of the file that write_checkpoint makes of these.
std::int64_t checkpoint_size(const StateDict& tensors, const Metadata& metadata = {});

}  // namespace frost
