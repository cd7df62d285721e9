#pragma once
#include <memory>
#include <string>

#include "engine/tensor/device.h"

namespace frost {

/// What --device means to every tool.
inline constexpr const char* kDeviceHelp = "cuda, cuda:1, 1 (a CUDA device's number), cpu; auto: CUDA where it is usable";

/// The device a tool runs on, chosen from its flags.
struct RunDevice {
  /// `device`: "" or "auto" (CUDA if usable, else the CPU), "cuda[:N]", "N", "cpu"; `precision`: "f32" or "bf16". Throws
  /// Error for what this build or machine cannot do.
  RunDevice(const std::string& device, const std::string& precision);
  std::unique_ptr<Device> device;
  DType compute = DType::f32;
  std::string line;  // "frost 0.1.0 CPU (2 threads, ...), f32"; under auto, why it is not CUDA
};

}  // namespace frost
