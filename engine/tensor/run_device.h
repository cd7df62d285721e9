#pragma once
#include <memory>
#include <string>

#include "engine/tensor/device.h"

namespace frost {

/// The device a tool runs on, chosen from its flags.
struct RunDevice {
  /// `device`: "" or "cpu"; `precision`: "f32", "bf16", "f16", or
  /// "auto": bf16 on a GPU, f32 on a CPU; "half": f16 on a GPU, bf16 on a CPU. Throws Error for what this build or machine
  /// cannot do.
  RunDevice(const std::string& device, const std::string& precision);
  std::unique_ptr<Device> device;
  DType compute = DType::f32;
  std::string line;  // "frost 0.1.0  CPU (2 threads, ...)"
};

}  // namespace frost
