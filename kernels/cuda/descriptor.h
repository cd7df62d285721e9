#pragma once
#include <cudnn.h>

#include <algorithm>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "kernels/cuda/check.h"

/// A typed door to cuDNN's graph API. The API itself is five calls on opaque descriptors whose attributes are passed as
/// (name, type, count, address): a wrong type is found out at run time, if at all. Here the value's C++ type decides.
namespace frost::cuda {

template <class T>
inline constexpr cudnnBackendAttributeType_t kAttributeType = T::is_no_attribute_type;
template <>
inline constexpr auto kAttributeType<std::int64_t> = CUDNN_TYPE_INT64;
template <>
inline constexpr auto kAttributeType<std::int32_t> = CUDNN_TYPE_INT32;
template <>
inline constexpr auto kAttributeType<float> = CUDNN_TYPE_FLOAT;
template <>
inline constexpr auto kAttributeType<double> = CUDNN_TYPE_DOUBLE;
template <>
inline constexpr auto kAttributeType<bool> = CUDNN_TYPE_BOOLEAN;
template <>
inline constexpr auto kAttributeType<char> = CUDNN_TYPE_CHAR;
template <>
inline constexpr auto kAttributeType<void*> = CUDNN_TYPE_VOID_PTR;
template <>
inline constexpr auto kAttributeType<cudnnHandle_t> = CUDNN_TYPE_HANDLE;
template <>
inline constexpr auto kAttributeType<cudnnDataType_t> = CUDNN_TYPE_DATA_TYPE;
template <>
inline constexpr auto kAttributeType<cudnnConvolutionMode_t> = CUDNN_TYPE_CONVOLUTION_MODE;
template <>
inline constexpr auto kAttributeType<cudnnPointwiseMode_t> = CUDNN_TYPE_POINTWISE_MODE;
template <>
inline constexpr auto kAttributeType<cudnnBackendHeurMode_t> = CUDNN_TYPE_HEUR_MODE;
template <>
inline constexpr auto kAttributeType<cudnnBackendKnobType_t> = CUDNN_TYPE_KNOB_TYPE;
template <>
inline constexpr auto kAttributeType<cudnnBackendNumericalNote_t> = CUDNN_TYPE_NUMERICAL_NOTE;
template <>
inline constexpr auto kAttributeType<cudnnBackendBehaviorNote_t> = CUDNN_TYPE_BEHAVIOR_NOTE;

/// Owns one descriptor. Set its attributes, finalize it, then read from it or hand it to the next one.
class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(cudnnBackendDescriptorType_t type) { FROST_CUDA(cudnnBackendCreateDescriptor(type, &raw_)); }
  ~Descriptor() {
    if (raw_) cudnnBackendDestroyDescriptor(raw_);
  }
  Descriptor(Descriptor&& other) noexcept : raw_(std::exchange(other.raw_, nullptr)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(raw_, other.raw_);
    return *this;
  }

  explicit operator bool() const { return raw_ != nullptr; }
  cudnnBackendDescriptor_t raw() const { return raw_; }

  template <class T>
  Descriptor& set(cudnnBackendAttributeName_t name, std::span<const T> values) {
    FROST_CUDA(
        cudnnBackendSetAttribute(raw_, name, kAttributeType<T>, static_cast<std::int64_t>(values.size()), values.data()));
    return *this;
  }
  template <class T>
  Descriptor& set(cudnnBackendAttributeName_t name, const T& value) {
    return set(name, std::span<const T>(&value, 1));
  }
  Descriptor& set(cudnnBackendAttributeName_t name, const Descriptor& value) {
    FROST_CUDA(cudnnBackendSetAttribute(raw_, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &value.raw_));
    return *this;
  }
  Descriptor& set(cudnnBackendAttributeName_t name, const std::vector<Descriptor>& values) {
    std::vector<cudnnBackendDescriptor_t> raw;
    for (const Descriptor& value : values) raw.push_back(value.raw_);
    FROST_CUDA(cudnnBackendSetAttribute(raw_, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, static_cast<std::int64_t>(raw.size()),
                                        raw.data()));
    return *this;
  }

  Descriptor& finalize() {
    FROST_CUDA(cudnnBackendFinalize(raw_));
    return *this;
  }
  /// For what another choice may follow: the status instead of an Error.
  cudnnStatus_t try_finalize() { return cudnnBackendFinalize(raw_); }

  /// How many values an attribute has.
  template <class T>
  std::int64_t count(cudnnBackendAttributeName_t name) const {
    return count(name, kAttributeType<T>);
  }
  template <class T>
  std::vector<T> list(cudnnBackendAttributeName_t name) const {
    std::vector<T> values(static_cast<std::size_t>(count<T>(name)));
    std::int64_t got = 0;
    if (!values.empty())
      FROST_CUDA(cudnnBackendGetAttribute(raw_, name, kAttributeType<T>, static_cast<std::int64_t>(values.size()), &got,
                                          values.data()));
    values.resize(static_cast<std::size_t>(got));
    return values;
  }
  template <class T>
  T get(cudnnBackendAttributeName_t name) const {
    T value{};
    std::int64_t got = 0;
    FROST_CUDA(cudnnBackendGetAttribute(raw_, name, kAttributeType<T>, 1, &got, &value));
    return value;
  }
  /// Descriptors are read into ones that the caller has made: `most` of them, as cuDNN does not count them beforehand.
  std::vector<Descriptor> list(cudnnBackendAttributeName_t name, cudnnBackendDescriptorType_t type,
                               std::int64_t most) const {
    std::vector<Descriptor> values;
    std::vector<cudnnBackendDescriptor_t> raw;
    while (static_cast<std::int64_t>(raw.size()) < most) raw.push_back(values.emplace_back(type).raw_);
    std::int64_t got = 0;
    FROST_CUDA(cudnnBackendGetAttribute(raw_, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, most, &got, raw.data()));
    values.resize(std::min(values.size(), static_cast<std::size_t>(got)));
    return values;
  }

 private:
  std::int64_t count(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type) const {
    std::int64_t n = 0;
    FROST_CUDA(cudnnBackendGetAttribute(raw_, name, type, 0, &n, nullptr));
    return n;
  }
  cudnnBackendDescriptor_t raw_ = nullptr;
};

}  // namespace frost::cuda
