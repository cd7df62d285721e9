#include "engine/checkpoint/sparse_checkpoint.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>

namespace frost {
namespace {

using nlohmann::json;
constexpr const char* kSparseKey = "frost.packed";
constexpr std::string_view kValues = ".values", kBits = ".bits";

bool is_mask(std::string_view name, const StateDict& state) {
  return name.ends_with(kMaskSuffix) && state.contains(name.substr(0, name.size() - std::strlen(kMaskSuffix)));
}

/// A value of any type is zero where all its bits are but the sign's.
bool is_zero(const std::byte* value, std::size_t size) {
  for (std::size_t i = 0; i + 1 < size; ++i)
    if (value[i] != std::byte{0}) return false;
  return (value[size - 1] & std::byte{0x7F}) == std::byte{0};
}

bool bit(const std::vector<std::byte>& bits, std::size_t i) {
  return (bits[i / 8] >> (i % 8) & std::byte{1}) != std::byte{0};
}

std::vector<std::int64_t> shape_in(const json& value, const std::string& name) {
  FROST_CHECK(value.is_array() && value.size() <= 64, "sparse tensor ", name, ": its shape is not a list of dimensions");
  std::vector<std::int64_t> shape;
  std::int64_t elements = 1;
  for (const json& dimension : value) {
    FROST_CHECK(dimension.is_number_unsigned() && dimension.get<std::uint64_t>() <= INT64_MAX, "sparse tensor ", name,
                ": a dimension is not a natural number");
    shape.push_back(dimension.get<std::int64_t>());
    FROST_CHECK(!__builtin_mul_overflow(elements, shape.back(), &elements), "sparse tensor ", name, ": too many elements");
  }
  return shape;
}

HostTensor unpack(const std::string& name, std::vector<std::int64_t> shape, const HostTensor& values, const HostTensor& bits,
                  HostTensor& mask) {
  HostTensor out{values.dtype, std::move(shape), {}};
  const auto count = static_cast<std::size_t>(out.count());
  FROST_CHECK(bits.dtype == DType::u8 && bits.shape.size() == 1 && bits.bytes.size() == count / 8 + (count % 8 != 0),
              "sparse tensor ", name, ": ", bits.bytes.size(), " bytes of bits for ", count, " elements");
  if (count % 8 != 0)
    FROST_CHECK((bits.bytes.back() >> (count % 8)) == std::byte{0}, "sparse tensor ", name, ": bits after the last element");
  std::int64_t set = 0;
  for (const std::byte b : bits.bytes) set += std::popcount(static_cast<unsigned char>(b));
  FROST_CHECK(values.shape.size() == 1 && values.count() == set, "sparse tensor ", name, ": ", set, " bits are set, but ",
              values.count(), " values follow");
  const std::size_t size = size_of(values.dtype);
  out.bytes.resize(count * size);
  mask = {DType::u8, out.shape, std::vector<std::byte>(count)};
  const std::byte* next = values.bytes.data();
  for (std::size_t i = 0; i < count; ++i) {
    if (!bit(bits.bytes, i)) continue;
    mask.bytes[i] = std::byte{1};
    std::memcpy(&out.bytes[i * size], next, size);
    next += size;
  }
  return out;
}

}  // namespace

SafetensorsFile sparse_form(const SafetensorsFile& dense) {
  SafetensorsFile file{.tensors = {}, .metadata = dense.metadata};
  json shapes = json::object();
  for (const auto& [name, tensor] : dense.tensors) {
    if (is_mask(name, dense.tensors)) continue;
    const HostTensor* mask = dense.tensors.find(name + kMaskSuffix);
    if (!mask) {
      file.tensors.add(name, tensor);
      continue;
    }
    FROST_CHECK(mask->dtype == DType::u8 && mask->shape == tensor.shape, name, ": its mask is of another shape or type");
    const std::size_t size = size_of(tensor.dtype), count = mask->bytes.size();
    HostTensor values{tensor.dtype, {}, {}}, bits{DType::u8, {}, std::vector<std::byte>((count + 7) / 8)};
    values.bytes.reserve(tensor.bytes.size());
    for (std::size_t i = 0; i < count; ++i) {
      const std::byte* value = &tensor.bytes[i * size];
      if (mask->bytes[i] != std::byte{0}) {
        bits.bytes[i / 8] |= std::byte{1} << (i % 8);
        values.bytes.insert(values.bytes.end(), value, value + size);
      } else {
        FROST_CHECK(is_zero(value, size), name, ": element ", i, " is masked but not zero");
      }
    }
    values.shape = {static_cast<std::int64_t>(values.bytes.size() / size)};
    bits.shape = {static_cast<std::int64_t>(bits.bytes.size())};
    file.tensors.add(name + std::string(kValues), std::move(values));
    file.tensors.add(name + std::string(kBits), std::move(bits));
    shapes[name] = tensor.shape;
  }
  if (!shapes.empty()) file.metadata[kSparseKey] = shapes.dump();
  return file;
}

SafetensorsFile dense_form(SafetensorsFile file) {
  const auto key = file.metadata.find(kSparseKey);
  if (key == file.metadata.end()) return file;
  const json shapes = json::parse(key->second, nullptr, false);
  FROST_CHECK(shapes.is_object(), "metadata ", kSparseKey, " cannot be read: ", key->second.substr(0, 60));
  for (const auto& [name, shape] : shapes.items())
    for (const std::string_view part : {kValues, kBits})
      FROST_CHECK(file.tensors.contains(name + std::string(part)), "sparse tensor ", name, ": no ", name, part);

  SafetensorsFile out{.tensors = {}, .metadata = std::move(file.metadata)};
  out.metadata.erase(kSparseKey);
  const auto packed_name = [&](std::string_view name, std::string_view suffix) -> std::string {
    if (!name.ends_with(suffix)) return "";
    std::string whole(name.substr(0, name.size() - suffix.size()));
    return shapes.contains(whole) ? whole : "";
  };
  for (const auto& [name, tensor] : file.tensors) {
    if (!packed_name(name, kBits).empty()) continue;
    const std::string whole = packed_name(name, kValues);
    if (whole.empty()) {
      out.tensors.add(name, tensor);
      continue;
    }
    HostTensor mask;
    HostTensor values =
        unpack(whole, shape_in(shapes[whole], whole), tensor, file.tensors.at(whole + std::string(kBits)), mask);
    out.tensors.add(whole, std::move(values));
    out.tensors.add(whole + kMaskSuffix, std::move(mask));
  }
  return out;
}

StateDict without_masks(const StateDict& state) {
  StateDict values;
  for (const auto& [name, tensor] : state)
    if (!is_mask(name, state)) values.add(name, tensor);
  return values;
}

SafetensorsFile read_checkpoint(const std::filesystem::path& path) {
  SafetensorsFile file = read_safetensors(path);
  try {
    return dense_form(std::move(file));
  } catch (const Error& error) {
    fail(path.string(), ": ", error.what());
  }
}

void write_checkpoint(const std::filesystem::path& path, const StateDict& tensors, const Metadata& metadata) {
  const SafetensorsFile file = sparse_form({.tensors = tensors, .metadata = metadata});
  write_safetensors(path, file.tensors, file.metadata);
}

std::int64_t checkpoint_size(const StateDict& tensors, const Metadata& metadata) {
  const SafetensorsFile file = sparse_form({.tensors = tensors, .metadata = metadata});
  return safetensors_size(file.tensors, file.metadata);
}

}  // namespace frost
