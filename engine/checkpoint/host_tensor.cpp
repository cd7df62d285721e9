#include "engine/checkpoint/host_tensor.h"

#include <cassert>
#include <cstring>

#include "engine/checkpoint/endian.h"
#include "kernels/math/half.h"

namespace frost {
namespace {

template <class T>
T element(const std::byte* bytes, std::size_t i) {
  return little<T>(bytes + i * sizeof(T));
}

template <class Out>
std::vector<Out> converted(const HostTensor& t) {
  const auto count = static_cast<std::size_t>(t.count());
  assert(t.bytes.size() == count * size_of(t.dtype));
  std::vector<Out> out(count);
  const std::byte* in = t.bytes.data();
  const auto each = [&](auto read) {
    for (std::size_t i = 0; i < count; ++i) out[i] = static_cast<Out>(read(i));
  };
  switch (t.dtype) {
    case DType::f32:
      each([&](std::size_t i) { return element<float>(in, i); });
      break;
    case DType::f64:
      each([&](std::size_t i) { return element<double>(in, i); });
      break;
    case DType::f16:
      each([&](std::size_t i) { return math::to_float(math::f16{element<std::uint16_t>(in, i)}); });
      break;
    case DType::bf16:
      each([&](std::size_t i) { return math::to_float(math::bf16{element<std::uint16_t>(in, i)}); });
      break;
    case DType::u8:
      each([&](std::size_t i) { return element<std::uint8_t>(in, i); });
      break;
    case DType::i32:
      each([&](std::size_t i) { return element<std::int32_t>(in, i); });
      break;
    case DType::i64:
      each([&](std::size_t i) { return element<std::int64_t>(in, i); });
      break;
  }
  return out;
}

template <class T>
HostTensor copied(DType dtype, std::vector<std::int64_t> shape, std::span<const T> values) {
  HostTensor t{dtype, std::move(shape), std::vector<std::byte>(values.size_bytes())};
  assert(t.count() == static_cast<std::int64_t>(values.size()));
  if (!values.empty()) std::memcpy(t.bytes.data(), values.data(), values.size_bytes());
  return t;
}

}  // namespace

std::int64_t HostTensor::count() const {
  std::int64_t n = 1;
  for (const auto d : shape) n *= d;
  return n;
}
std::vector<float> HostTensor::to_f32() const { return converted<float>(*this); }
std::vector<double> HostTensor::to_f64() const { return converted<double>(*this); }

bool HostTensor::all_finite() const {
  // Infinity and NaN are the values whose exponent bits are all set.
  const auto none_has = [this]<class Bits>(Bits exponent) {
    bool found = false;
    for (std::size_t i = 0; i < bytes.size() / sizeof(Bits); ++i)
      found |= (element<Bits>(bytes.data(), i) & exponent) == exponent;
    return !found;
  };
  switch (dtype) {
    case DType::f16:
      return none_has(std::uint16_t{0x7C00});
    case DType::bf16:
      return none_has(std::uint16_t{0x7F80});
    case DType::f32:
      return none_has(std::uint32_t{0x7F800000});
    case DType::f64:
      return none_has(std::uint64_t{0x7FF0000000000000});
    default:
      return true;
  }
}

HostTensor HostTensor::from_f32(std::vector<std::int64_t> shape, std::span<const float> values) {
  return copied(DType::f32, std::move(shape), values);
}
HostTensor HostTensor::from_i64(std::vector<std::int64_t> shape, std::span<const std::int64_t> values) {
  return copied(DType::i64, std::move(shape), values);
}

HostTensor HostTensor::as(DType type) const {
  if (type == dtype) return *this;
  const auto values = to_f32();
  if (type == DType::f32) return from_f32(shape, values);
  FROST_CHECK(type == DType::f16 || type == DType::bf16, "cannot convert a tensor from ", name_of(dtype), " to ",
              name_of(type));
  std::vector<std::uint16_t> halves(values.size());
  for (std::size_t i = 0; i < values.size(); ++i)
    halves[i] =
        type == DType::f16 ? math::from_float<math::f16>(values[i]).bits : math::from_float<math::bf16>(values[i]).bits;
  return copied<std::uint16_t>(type, shape, halves);
}

std::string shape_text(std::span<const std::int64_t> shape) {
  if (shape.empty()) return "scalar";
  std::string text;
  for (const auto d : shape) text += (text.empty() ? "" : "x") + std::to_string(d);
  return text;
}

void StateDict::add(std::string name, HostTensor tensor) {
  const bool fresh = index_.emplace(name, items_.size()).second;
  FROST_CHECK(fresh, "tensor ", name, " occurs twice");
  items_.emplace_back(std::move(name), std::move(tensor));
}
const HostTensor* StateDict::find(std::string_view name) const {
  const auto it = index_.find(name);
  return it == index_.end() ? nullptr : &items_[it->second].second;
}
const HostTensor& StateDict::at(std::string_view name) const {
  const HostTensor* tensor = find(name);
  FROST_CHECK(tensor, "no tensor ", name);
  return *tensor;
}
StateDict StateDict::below(std::string_view prefix) const {
  StateDict part;
  for (const auto& [name, tensor] : items_)
    if (name.starts_with(prefix)) part.add(name.substr(prefix.size()), tensor);
  return part;
}

}  // namespace frost
