#pragma once
#include <iostream>

#include "engine/tensor/device.h"
#include "tests/kernels/device.h"

namespace frost::testing {

/// The device that a test of the engine or the models computes on: FROST_TEST_DEVICE (tests/kernels/device.h). Its memory is
/// not the host's: values are read with Tensor::to_vector. By default it gives the same bits in every run, as the CPU does;
/// `fastest`: as a run without --deterministic, with timed engines and those that cuDNN compiles.
struct TestDevice : Device {
  enum Engines { deterministic, fastest };
  explicit TestDevice(Engines engines = deterministic) : Device(make_device_backend(engines == deterministic)) {}
};

/// True where the tests run on the CPU; otherwise says aloud that this one does not, and why.
inline bool cpu_only(const char* why) {
  if (!on_cpu()) std::cout << "SKIPPED: FROST_TEST_DEVICE=" << test_device() << ": " << why << std::endl;
  return on_cpu();
}

}  // namespace frost::testing
