#include "engine/tensor/tensor.h"

namespace frost {

Storage::Storage(Device& device, std::size_t bytes, Role role)
    : device_(device), data_(device.acquire(bytes)), bytes_(bytes), role_(role), scope_(device.scope()) {
  device_.ledger().add(role_, scope_, static_cast<std::int64_t>(bytes_));
}

Storage::~Storage() {
  device_.ledger().remove(role_, scope_, static_cast<std::int64_t>(bytes_));
  device_.allocator().recycle(data_);
}

void Storage::set_role(Role role) {
  if (role == role_) return;
  device_.ledger().remove(role_, scope_, static_cast<std::int64_t>(bytes_));
  role_ = role;
  device_.ledger().add(role_, scope_, static_cast<std::int64_t>(bytes_));
}

namespace {
/// Bytes of a tensor. A size that no machine has is refused here, before a product of sides overflows.
std::size_t checked_bytes(const Shape& shape, DType dtype) {
  constexpr std::int64_t kMost = std::int64_t{1} << 46;
  std::int64_t bytes = static_cast<std::int64_t>(size_of(dtype));
  for (const std::int64_t side : {shape.n, shape.h, shape.w, shape.c})
    FROST_CHECK(side >= 0 && !__builtin_mul_overflow(bytes, side, &bytes) && bytes <= kMost, "a tensor of ", shape, " ",
                name_of(dtype), " values is larger than 64 TiB");
  return static_cast<std::size_t>(bytes);
}
}  // namespace

Tensor::Tensor(Device& device, Shape shape, DType dtype, Role role)
    : storage_(std::make_shared<Storage>(device, checked_bytes(shape, dtype), role)),
      shape_(shape),
      dtype_(dtype),
      pitch_(shape.c) {}

Tensor Tensor::zeros(Device& device, Shape shape, DType dtype, Role role) {
  Tensor tensor(device, shape, dtype, role);
  tensor.fill_zero();
  return tensor;
}

Tensor Tensor::from(Device& device, Shape shape, const std::vector<float>& values, Role role) {
  Tensor tensor(device, shape, DType::f32, role);
  tensor.assign(values);
  return tensor;
}

float* Tensor::f32() const {
  FROST_CHECK(dtype_ == DType::f32, "tensor: f32 values asked of a ", name_of(dtype_), " tensor");
  return static_cast<float*>(data());
}

Tensor Tensor::channels(std::int64_t first, std::int64_t count) const {
  FROST_CHECK(first >= 0 && count > 0 && first + count <= shape_.c, "tensor: channels ", first, "+", count, " of ",
              shape_.c);
  Tensor slice = *this;
  slice.offset_ += static_cast<std::size_t>(first) * size_of(dtype_);
  slice.shape_.c = count;
  return slice;
}

Tensor Tensor::part(std::int64_t first, Shape shape) const {
  FROST_CHECK(packed() && first >= 0 && first + shape.elements() <= elements(), "tensor: part ", first, "+",
              shape.elements(), " of ", elements(), " values");
  Tensor piece = *this;
  piece.offset_ += static_cast<std::size_t>(first) * size_of(dtype_);
  piece.shape_ = shape;
  piece.pitch_ = shape.c;
  return piece;
}

std::vector<float> Tensor::to_vector() const {
  std::vector<float> values(static_cast<std::size_t>(elements()));
  if (packed() && dtype_ == DType::f32) {
    backend().synchronize();
    backend().download(values.data(), data(), values.size() * sizeof(float));
    return values;
  }
  Tensor plain(device(), shape_, DType::f32, Role::workspace);
  backend().copy({.x = view(), .y = plain.view()});
  return plain.to_vector();
}

void Tensor::assign(const std::vector<float>& values) {
  FROST_CHECK(static_cast<std::int64_t>(values.size()) == elements(), "tensor: ", values.size(), " values for shape ",
              shape_);
  if (packed() && dtype_ == DType::f32) {
    backend().upload(data(), values.data(), values.size() * sizeof(float));
    return;
  }
  Tensor plain(device(), shape_, DType::f32, Role::workspace);
  plain.assign(values);
  backend().copy({.x = plain.view(), .y = view()});
}

void Tensor::fill_zero() {
  FROST_CHECK(packed(), "tensor: fill_zero of a channel slice");
  backend().zero(data(), static_cast<std::size_t>(elements()) * size_of(dtype_));
}

}  // namespace frost
