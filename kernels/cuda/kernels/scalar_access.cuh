#pragma once
#include "kernels/math/half.h"
#include "kernels/view.h"

namespace frost::cuda {

/// One value of a map whose type is known at run time: for what is read once a prediction.
FROST_HD float load_value(const void* data, DType type, std::int64_t i) {
  if (type == DType::bf16) return math::to_float(static_cast<const math::bf16*>(data)[i]);
  if (type == DType::f16) return math::to_float(static_cast<const math::f16*>(data)[i]);
  return static_cast<const float*>(data)[i];
}
FROST_HD void store_value(void* data, DType type, std::int64_t i, float value) {
  if (type == DType::bf16)
    static_cast<math::bf16*>(data)[i] = math::from_float<math::bf16>(value);
  else if (type == DType::f16)
    static_cast<math::f16*>(data)[i] = math::from_float<math::f16>(value);
  else
    static_cast<float*>(data)[i] = value;
}
FROST_HD float rounded_to(DType type, float value) {
  if (type == DType::bf16) return math::to_float(math::from_float<math::bf16>(value));
  if (type == DType::f16) return math::to_float(math::from_float<math::f16>(value));
  return value;
}

}  // namespace frost::cuda
