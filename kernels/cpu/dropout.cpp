#include "kernels/math/dropout.h"

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/rows.h"

namespace frost::cpu {

void CpuBackend::dropout(const Dropout& a) {
  check_same("dropout", a.x, a.y);
  FROST_CHECK(a.p >= 0 && a.p < 1, "dropout: p is ", a.p, ", expected 0 <= p < 1");
  const std::int64_t channels = a.x.shape.c;
  const std::uint64_t stream = math::dropout_stream(a.seed, a.step_seed);
  with_type(a.x.dtype, "dropout", [&]<class T>(T) {
    for_rows(a.x.shape, a.x.packed() && a.y.packed(), [&](std::int64_t i, std::int64_t width) FROST_LOOP {
      for_lanes(width, [x = a.x.as<T>() + i * a.x.pitch, y = a.y.as<T>() + i * a.y.pitch, p = a.p, stream,
                        first = static_cast<std::uint64_t>(i * channels)](std::int64_t j) FROST_LOOP {
        y[j] = from_float<T>(math::dropout(to_float(x[j]), p, stream, first + static_cast<std::uint64_t>(j)));
      });
    });
  });
}

}  // namespace frost::cpu
