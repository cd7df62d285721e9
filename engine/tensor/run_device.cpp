#include "engine/tensor/run_device.h"

#include <charconv>
#include <optional>

#include "kernels/cuda_loader.h"

namespace frost {
namespace {

/// The number in "1", "cuda:1" or "cuda" (0); nothing where `name` is none of them.
std::optional<int> cuda_number(std::string name) {
  if (name == "cuda") return 0;
  if (name.starts_with("cuda:")) name.erase(0, 5);
  int number = 0;
  const char* end = name.data() + name.size();
  const auto [stop, status] = std::from_chars(name.data(), end, number);
  if (name.empty() || status != std::errc{} || stop != end || number < 0) return std::nullopt;
  return number;
}

DType compute_type(const std::string& precision, const Backend& backend) {
  const bool gpu = backend.supports(DType::f16);  // no CPU computes with it here
  if (precision == "auto") return gpu && backend.supports(DType::bf16) ? DType::bf16 : DType::f32;
  if (precision == "half") return gpu ? DType::f16 : DType::bf16;
  for (const DType type : {DType::f32, DType::bf16, DType::f16})
    if (precision == name_of(type)) return type;
  fail("--precision ", precision, " is not one of auto, f32, bf16, f16");
}

}  // namespace

RunDevice::RunDevice(const std::string& name, const std::string& precision, const CudaChoices& choices) {
  const bool automatic = name.empty() || name == "auto";
  const auto number = automatic ? std::optional<int>(0) : cuda_number(name);
  FROST_CHECK(name.find(',') == name.npos, "--device ", name, ": a run has one device; name one of them");
  FROST_CHECK(automatic || number || name == "cpu", "--device ", name, " is none of auto, cpu, cuda, cuda:N, N");
  std::string note;
  if (number) {
    auto cuda = load_cuda({.device = *number, .deterministic = choices.deterministic, .tf32 = choices.tf32});
    FROST_CHECK(cuda.backend || automatic, "--device ", name, ": CUDA is not usable: ", cuda.why_not);
    if (cuda.backend)
      device = std::make_unique<Device>(std::move(cuda.backend));
    else
      note = "; CUDA is not usable: " + cuda.why_not;
  }
  if (!device) device = std::make_unique<Device>(make_cpu_backend());

  compute = compute_type(precision, device->backend());
  FROST_CHECK(device->backend().supports(compute), "--precision ", precision, ": ", device->backend().description(),
              " has no instructions for it; use --precision f32");
  line = std::string("frost " FROST_VERSION " ") + device->backend().description() + ", " + name_of(compute) + note;
}

}  // namespace frost
