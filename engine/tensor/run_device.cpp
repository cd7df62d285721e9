#include "engine/tensor/run_device.h"

namespace frost {
namespace {

DType compute_type(const std::string& precision, const Backend& backend) {
  const bool gpu = backend.supports(DType::f16);  // no CPU computes with it here
  if (precision == "auto") return gpu && backend.supports(DType::bf16) ? DType::bf16 : DType::f32;
  if (precision == "half") return gpu ? DType::f16 : DType::bf16;
  for (const DType type : {DType::f32, DType::bf16, DType::f16})
    if (precision == name_of(type)) return type;
  fail("--precision ", precision, " is not one of auto, f32, bf16, f16");
}

}  // namespace

RunDevice::RunDevice(const std::string& name, const std::string& precision) {
  FROST_CHECK(name.empty() || name == "cpu" || name == "auto", "--device ", name,
              ": this build has no CUDA backend; use --device cpu, or leave the flag out");
  device = std::make_unique<Device>(make_cpu_backend());
  compute = compute_type(precision, device->backend());
  FROST_CHECK(device->backend().supports(compute), "--precision ", precision, ": ", device->backend().description(),
              " has no instructions for it; use --precision f32");
  line = std::string("frost " FROST_VERSION " ") + device->backend().description() + ", " + name_of(compute);
}

}  // namespace frost
