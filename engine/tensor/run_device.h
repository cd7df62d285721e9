#pragma once
#include <memory>
#include <string>

#include "engine/tensor/device.h"

namespace frost {

/// The meaning of --device, the same for every tool.
inline constexpr const char* kDeviceHelp = "cuda, cuda:1, 1 (a CUDA device's number), cpu; auto: CUDA where it is usable";

/// Flags of CUDA devices; a CPU is deterministic anyway, and has no TF32.
struct CudaChoices {
  bool deterministic = false;  // the same bits in every run: no timing of engines, none that may differ
  bool tf32 = false;           // f32 convolutions and products may use TF32
};

/// The type that `precision` means on a device: f32, bf16, f16; auto: bf16 on a GPU, f32 on a CPU; half: f16 on a GPU, bf16
/// on a CPU. Throws Error for what the device cannot compute with.
DType compute_type(const std::string& precision, const Backend& backend);

/// The device a tool runs on, chosen from its flags.
struct RunDevice {
  /// `device`: "" or "auto" (CUDA if usable, else the CPU), "cuda[:N]", "N", "cpu". Throws Error for what this build or
  /// machine cannot do.
  RunDevice(const std::string& device, const std::string& precision, const CudaChoices& cuda = {});
  /// A device that is open already and outlives this.
  RunDevice(Device& device, const std::string& precision);
  std::shared_ptr<Device> device;
  DType compute = DType::f32;
  std::string line;  // "frost 0.1.0 CPU (2 threads, ...), f32"; under auto, why it is not CUDA
};

}  // namespace frost
