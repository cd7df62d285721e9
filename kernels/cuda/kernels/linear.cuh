#pragma once
#include <compare>
#include <cstdint>

#include "kernels/conv.h"
#include "kernels/cuda/convolution/conv_kernels.cuh"

/// Linear layers as matrix products, over a launcher (kernel_launch.cuh) and a matrix product: cuBLASLt in linear.cu, plain
/// loops in the tests.
namespace frost::cuda {

/// cuBLASLt counts columns first; a row-major matrix is its transpose there. Everything is said in its terms:
/// d (m, n) = op(a) (m, k) op(b) (k, n) + beta d [+ bias (m) in every column].
struct MatrixProduct {
  bool transpose_a, transpose_b;
  std::int64_t m, n, k;
  bool add, bias;
  std::uint32_t alignment = 0;  // bytes, of all matrices: set by the matrix product
  auto operator<=>(const MatrixProduct&) const = default;
};

/// multiply(product, a, b, bias, d). y (rows, out) = x (rows, in) weight^T; in columns: y (out, rows) = weight^T (out, in)
/// x (in, rows).
template <class Multiply>
void linear_forward(const Multiply& multiply, const LinearForward& a) {
  if (a.rows == 0 || a.out == 0) return;
  multiply(MatrixProduct{.transpose_a = true,
                         .transpose_b = false,
                         .m = a.out,
                         .n = a.rows,
                         .k = a.in,
                         .add = false,
                         .bias = a.bias != nullptr},
           a.weight, a.x, a.bias, a.y);
}

template <class Launcher, class Multiply>
void linear_backward(const Launcher& launch, const Multiply& multiply, const LinearBackward& a) {
  if (a.rows == 0) return;
  if (a.dx)  // in columns: dx (in, rows) = weight (in, out) dy (out, rows)
    multiply(
        MatrixProduct{
            .transpose_a = false, .transpose_b = false, .m = a.in, .n = a.rows, .k = a.out, .add = false, .bias = false},
        a.weight, a.dy, nullptr, a.dx);
  if (a.dweight)  // dweight (in, out) += x (in, rows) dy^T (rows, out)
    multiply(
        MatrixProduct{
            .transpose_a = false, .transpose_b = true, .m = a.in, .n = a.out, .k = a.rows, .add = true, .bias = false},
        a.x, a.dy, nullptr, a.dweight);
  if (a.dbias) {
    const ConstView dy = packed_view(a.dy, {a.rows, 1, 1, a.out});
    const auto bytes = static_cast<std::size_t>(partial_sums(dy)) * sizeof(float);
    sum_channels(launch, dy, static_cast<float*>(launch.scratch(bytes)), a.dbias, true);
  }
}

}  // namespace frost::cuda
