#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "kernels/view.h"

namespace frost {

/// A tensor as files hold it: row-major, in PyTorch's order of dimensions (OIHW weights). shape {} is a scalar.
struct HostTensor {
  DType dtype = DType::f32;
  std::vector<std::int64_t> shape;
  std::vector<std::byte> bytes;

  /// Number of elements.
  std::int64_t count() const;
  /// The values as f32, whatever the dtype (i64 and f64 are rounded).
  std::vector<float> to_f32() const;
  /// The values as f64: exact for every dtype but large i64.
  std::vector<double> to_f64() const;
  /// No NaN and no infinity in it.
  bool all_finite() const;

  static HostTensor from_f32(std::vector<std::int64_t> shape, std::span<const float> values);
  static HostTensor from_i64(std::vector<std::int64_t> shape, std::span<const std::int64_t> values);
  /// A copy converted to f32, f16 or bf16 (round to nearest even).
  HostTensor as(DType type) const;
  bool operator==(const HostTensor&) const = default;
};

/// "16x3x6x6", or "scalar".
std::string shape_text(std::span<const std::int64_t> shape);

/// Tensors by name, in the order of a PyTorch state dict.
class StateDict {
 public:
  using Item = std::pair<std::string, HostTensor>;

  /// Appends; a name that is there already is an Error.
  void add(std::string name, HostTensor tensor);
  /// nullptr where there is none.
  const HostTensor* find(std::string_view name) const;
  /// Error where there is none.
  const HostTensor& at(std::string_view name) const;
  bool contains(std::string_view name) const { return find(name) != nullptr; }
  std::size_t size() const { return items_.size(); }
  bool empty() const { return items_.empty(); }
  std::vector<Item>::const_iterator begin() const { return items_.begin(); }
  std::vector<Item>::const_iterator end() const { return items_.end(); }
  /// The tensors whose name begins with `prefix`, without it.
  StateDict below(std::string_view prefix) const;

 private:
  struct TextHash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
  };
  std::vector<Item> items_;
  std::unordered_map<std::string, std::size_t, TextHash, std::equal_to<>> index_;
};

}  // namespace frost
