#pragma once
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>

#include "engine/checkpoint/host_tensor.h"

namespace frost {

/// Texts in a checkpoint: names, strides, the model's YAML. See docs/spec/checkpoint.md section 6.
using Metadata = std::map<std::string, std::string>;

struct SafetensorsFile {
  StateDict tensors;  // in the order of their bytes, which is the order they were written in
  Metadata metadata;
};

/// Throws frost::Error with the file and the cause for anything the format forbids (docs/spec/checkpoint.md section 6).
/// Types we have no DType for are widened: I8, I16, U16 to i32; U32 to i64; BOOL to u8. U64 and F8 are refused.
SafetensorsFile read_safetensors(const std::filesystem::path& path);
/// Its metadata alone: the tensors are checked against the file's size, but their values are not read. Throws as
/// read_safetensors.
Metadata read_safetensors_metadata(const std::filesystem::path& path);

/// Atomic (write_file_atomically). Tensors keep the order of the state dict.
void write_safetensors(const std::filesystem::path& path, const StateDict& tensors, const Metadata& metadata = {});
/// The size in bytes of the file that write_safetensors makes of these.
std::int64_t safetensors_size(const StateDict& tensors, const Metadata& metadata = {});

}  // namespace frost
