#include "engine/tensor/run_device.h"

namespace frost {

RunDevice::RunDevice(const std::string& name, const std::string& precision) {
  FROST_CHECK(name.empty() || name == "cpu" || name == "auto", "--device ", name,
              ": this build has no CUDA backend; use --device cpu, or leave the flag out");
  device = std::make_unique<Device>(make_cpu_backend());
  if (precision == "bf16")
    compute = DType::bf16;
  else
    FROST_CHECK(precision == "f32", "--precision ", precision, " is not one of f32, bf16");
  FROST_CHECK(device->backend().supports(compute), "--precision ", precision, ": ", device->backend().description(),
              " has no instructions for it; use --precision f32");
  line = std::string("frost " FROST_VERSION " ") + device->backend().description() +
         (compute == DType::bf16 ? ", bf16" : ", f32");
}

}  // namespace frost
