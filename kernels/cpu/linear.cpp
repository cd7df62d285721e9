#include <dnnl.h>

#include <algorithm>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/parallel.h"

namespace frost::cpu {
namespace {

/// c (m, n) = op(a) op(b) + beta c, all row-major f32 and packed; 'T' transposes the matrix in memory.
void gemm(char transpose_a, char transpose_b, std::int64_t m, std::int64_t n, std::int64_t k, const float* a, const float* b,
          float beta, float* c) {
  const std::int64_t lda = transpose_a == 'T' ? m : k, ldb = transpose_b == 'T' ? k : n;
  const auto status = dnnl_sgemm(transpose_a, transpose_b, m, n, k, 1.f, a, lda, b, ldb, beta, c, n);
  FROST_CHECK(status == dnnl_success, "oneDNN sgemm ", m, "x", n, "x", k, " failed with status ", static_cast<int>(status));
}

}  // namespace

void CpuBackend::linear_forward(const LinearForward& a) {
  if (a.bias)
    for (std::int64_t row = 0; row < a.rows; ++row) std::copy_n(a.bias, a.out, a.y + row * a.out);
  gemm('N', 'T', a.rows, a.out, a.in, a.x, a.weight, a.bias ? 1.f : 0.f, a.y);
}

void CpuBackend::linear_backward(const LinearBackward& a) {
  if (a.dx) gemm('N', 'N', a.rows, a.in, a.out, a.dy, a.weight, 0.f, a.dx);
  if (a.dweight) gemm('T', 'N', a.out, a.in, a.rows, a.dy, a.x, 1.f, a.dweight);
  if (a.dbias)
    parallel_ranges(a.out, 1024, [&](std::int64_t first, std::int64_t last) {
      for (std::int64_t row = 0; row < a.rows; ++row)
        for (std::int64_t o = first; o < last; ++o) a.dbias[o] += a.dy[row * a.out + o];
    });
}

}  // namespace frost::cpu
