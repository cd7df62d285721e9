#include <cublasLt.h>

#include <algorithm>
#include <map>
#include <utility>

#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/kernels/kernel_launch.cuh"
#include "kernels/cuda/kernels/linear.cuh"
#include "kernels/cuda/kernels/linear_engine.h"
#include "kernels/cuda/runtime/check.h"

namespace frost::cuda {
namespace {

template <class T, cublasStatus_t (*destroy)(T)>
struct Handle {
  T raw = nullptr;
  Handle() = default;
  Handle(Handle&& other) noexcept : raw(std::exchange(other.raw, nullptr)) {}
  Handle& operator=(Handle&& other) noexcept {
    std::swap(raw, other.raw);
    return *this;
  }
  ~Handle() {
    if (raw) destroy(raw);
  }
};
using Library = Handle<cublasLtHandle_t, cublasLtDestroy>;
using Operation = Handle<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy>;
using Matrix = Handle<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy>;
using Preference = Handle<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy>;

template <class T>
void set(const Operation& operation, cublasLtMatmulDescAttributes_t name, const T& value) {
  FROST_CUDA(cublasLtMatmulDescSetAttribute(operation.raw, name, &value, sizeof value));
}
template <class T>
void set(const Preference& preference, cublasLtMatmulPreferenceAttributes_t name, const T& value) {
  FROST_CUDA(cublasLtMatmulPreferenceSetAttribute(preference.raw, name, &value, sizeof value));
}
Matrix matrix(std::int64_t rows, std::int64_t columns) {
  Matrix made;
  FROST_CUDA(cublasLtMatrixLayoutCreate(&made.raw, CUDA_R_32F, static_cast<std::uint64_t>(rows),
                                        static_cast<std::uint64_t>(columns), rows));
  return made;
}

struct Plan {
  Operation operation;
  Matrix a, b, d;
  cublasLtMatmulAlgo_t algorithm{};
  std::size_t workspace = 0;
};

std::uint32_t alignment_of(const void* p) {
  const auto address = reinterpret_cast<std::uintptr_t>(p);
  return static_cast<std::uint32_t>(std::min<std::uintptr_t>(address & (~address + 1), 16));
}

}  // namespace

struct LinearEngine::State {
  State(Context& with, const CudaOptions& how)
      : context(with),
        compute(how.tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F),
        // What cuBLAS itself would take: 32 MiB from Hopper on, 4 MiB before.
        most_workspace(with.capability >= 90 ? std::size_t{32} << 20 : std::size_t{4} << 20) {
    FROST_CUDA(cublasLtCreate(&library.raw));
  }

  Context& context;
  cublasComputeType_t compute;
  std::size_t most_workspace;
  Library library;
  std::map<MatrixProduct, Plan> plans;

  Plan& plan(const MatrixProduct& product, const float* bias);
  void multiply(MatrixProduct product, const float* a, const float* b, const float* bias, float* d);
  auto multiplier() {
    return [this](const MatrixProduct& p, const float* a, const float* b, const float* bias, float* d) {
      multiply(p, a, b, bias, d);
    };
  }
};

Plan& LinearEngine::State::plan(const MatrixProduct& p, const float* bias) {
  if (const auto it = plans.find(p); it != plans.end()) return it->second;
  Plan made;
  FROST_CUDA(cublasLtMatmulDescCreate(&made.operation.raw, compute, CUDA_R_32F));
  set(made.operation, CUBLASLT_MATMUL_DESC_TRANSA, p.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N);
  set(made.operation, CUBLASLT_MATMUL_DESC_TRANSB, p.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N);
  if (p.bias)
    set(made.operation, CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS),
        set(made.operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
  made.a = p.transpose_a ? matrix(p.k, p.m) : matrix(p.m, p.k);
  made.b = p.transpose_b ? matrix(p.n, p.k) : matrix(p.k, p.n);
  made.d = matrix(p.m, p.n);

  Preference preference;
  FROST_CUDA(cublasLtMatmulPreferenceCreate(&preference.raw));
  set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, most_workspace);
  for (const auto name : {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
                          CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
    set(preference, name, p.alignment);
  cublasLtMatmulHeuristicResult_t found{};
  int count = 0;
  FROST_CUDA(cublasLtMatmulAlgoGetHeuristic(library.raw, made.operation.raw, made.a.raw, made.b.raw, made.d.raw, made.d.raw,
                                            preference.raw, 1, &found, &count));
  FROST_CHECK(count == 1, "cuBLASLt has no algorithm for a product of ", p.m, 'x', p.k, " and ", p.k, 'x', p.n);
  made.algorithm = found.algo;
  made.workspace = found.workspaceSize;
  return plans.emplace(p, std::move(made)).first->second;
}

void LinearEngine::State::multiply(MatrixProduct product, const float* a, const float* b, const float* bias, float* d) {
  context.make_current();
  // Its kernels need no more than 16 bytes; with a larger value the choice would depend on a tensor's address.
  product.alignment = std::min({alignment_of(a), alignment_of(b), alignment_of(d)});
  Plan& found = plan(product, bias);
  if (bias) set(found.operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
  const float one = 1, beta = product.add ? 1 : 0;
  void* workspace = found.workspace ? context.scratch(found.workspace) : nullptr;
  FROST_CUDA(cublasLtMatmul(library.raw, found.operation.raw, &one, a, found.a.raw, b, found.b.raw, &beta, d, found.d.raw, d,
                            found.d.raw, &found.algorithm, workspace, found.workspace, context.compute));
}

LinearEngine::LinearEngine(Context& context, const CudaOptions& options)
    : state_(std::make_unique<State>(context, options)) {}
LinearEngine::~LinearEngine() = default;

void LinearEngine::forward(const LinearForward& a) { linear_forward(state_->multiplier(), a); }
void LinearEngine::backward(const LinearBackward& a) { linear_backward(Launch(state_->context), state_->multiplier(), a); }

void CudaBackend::linear_forward(const LinearForward& a) { linear_->forward(a); }
void CudaBackend::linear_backward(const LinearBackward& a) { linear_->backward(a); }

}  // namespace frost::cuda
