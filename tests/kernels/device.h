#pragma once
#include <memory>
#include <string>
#include <vector>

#include "kernels/backend.h"

namespace frost::testing {

/// FROST_TEST_DEVICE, "cpu" where it is not set.
std::string test_device();

/// The backend that a kernel test runs on, by FROST_TEST_DEVICE:
///   cpu (or unset)                  the CPU backend;
///   emulated, emulated-backwards    CUDA's kernels emulated on the host (emulated_backend.h);
///   cuda, cuda:N                    the CUDA backend; where it is not usable, the program prints one SKIPPED line that says
///                                   why and ends with kSkipped, which ctest counts as skipped.
/// The arguments may point to host memory whatever the device: for other devices than the CPU each call is mirrored
/// (mirror.h). What it reads and writes is copied to the device, between guard zones that have to stay intact, and what it
/// wrote comes back; inputs must not change.
std::unique_ptr<Backend> make_test_backend();

/// Is that the CPU backend? It promises more: it names labels and targets that cannot be, where other devices make the loss
/// NaN; it gives 16-bit convolutions' results in f32 without a rounding to 16 bits, and adds partial sums in double.
inline bool on_cpu() { return test_device() == "cpu"; }

/// The same without the mirror: arguments point to memory of the device's. For tests that go through Device and Tensor.
/// `deterministic`: the same bits in every run (CudaOptions).
std::unique_ptr<Backend> make_device_backend(bool deterministic = false);

/// The types of activations that it computes with: f32, bf16, and f16 but on the CPU.
inline std::vector<DType> float_types(const Backend& backend) {
  std::vector<DType> types;
  for (const DType type : {DType::f32, DType::bf16, DType::f16})
    if (type != DType::f16 || backend.supports(type)) types.push_back(type);
  return types;
}

inline constexpr int kSkipped = 77;

/// The mirror alone, around any backend.
std::unique_ptr<Backend> make_mirrored(std::unique_ptr<Backend> device);

}  // namespace frost::testing
