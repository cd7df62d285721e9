#pragma once
#include <memory>
#include <vector>

#include "engine/tensor/device.h"
#include "kernels/view.h"

namespace frost {

/// Memory that the ledger accounts under a role and a module scope as long as it exists.
class Storage {
 public:
  Storage(Device& device, std::size_t bytes, Role role);
  ~Storage();
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  Device& device() const { return device_; }
  void* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }
  Role role() const { return role_; }
  void set_role(Role role);  // accounts the bytes under another role

 private:
  Device& device_;
  void* data_;
  std::size_t bytes_;
  Role role_;
  Ledger::Scope scope_;
};

/// A view that owns: shape, type and pitch on shared storage. Copying a tensor shares its memory.
class Tensor {
 public:
  Tensor() = default;
  /// Contents are not initialised.
  Tensor(Device& device, Shape shape, DType dtype = DType::f32, Role role = Role::activation);
  static Tensor zeros(Device& device, Shape shape, DType dtype = DType::f32, Role role = Role::activation);
  static Tensor from(Device& device, Shape shape, const std::vector<float>& values, Role role = Role::activation);

  explicit operator bool() const { return storage_ != nullptr; }
  const Shape& shape() const { return shape_; }
  DType dtype() const { return dtype_; }
  std::int64_t pitch() const { return pitch_; }
  std::int64_t elements() const { return shape_.elements(); }
  bool packed() const { return pitch_ == shape_.c; }
  Device& device() const { return storage_->device(); }
  Backend& backend() const { return storage_->device().backend(); }
  Storage& storage() const { return *storage_; }
  bool shares_storage() const { return storage_.use_count() > 1; }

  View view() const { return {data(), shape_, dtype_, pitch_}; }
  operator View() const { return view(); }
  operator ConstView() const { return view(); }
  void* data() const { return static_cast<char*>(storage_->data()) + offset_; }
  float* f32() const;  // the values; throws where the type is not f32

  /// Channels [first, first + count) of every pixel, in the same memory.
  Tensor channels(std::int64_t first, std::int64_t count) const;
  /// `shape` values from element `first` on, in the same memory (of a packed tensor): arenas are divided so.
  Tensor part(std::int64_t first, Shape shape) const;

  std::vector<float> to_vector() const;           // values as f32, packed order
  void assign(const std::vector<float>& values);  // the inverse
  void fill_zero();

 private:
  std::shared_ptr<Storage> storage_;
  std::size_t offset_ = 0;  // bytes
  Shape shape_{0, 0, 0, 0};
  DType dtype_ = DType::f32;
  std::int64_t pitch_ = 0;
};

}  // namespace frost
