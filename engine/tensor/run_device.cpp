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

/// The backend of a device; `note`: under auto, why it is not CUDA.
std::unique_ptr<Backend> open_backend(const std::string& name, const CudaChoices& choices, std::string& note) {
  const bool automatic = name.empty() || name == "auto";
  const auto number = automatic ? std::optional<int>(0) : cuda_number(name);
  FROST_CHECK(name.find(',') == name.npos, "--device ", name, ": a run has one device; name one of them");
  FROST_CHECK(automatic || number || name == "cpu", "--device ", name, " is none of auto, cpu, cuda, cuda:N, N");
  if (number) {
    auto cuda = load_cuda({.device = *number, .deterministic = choices.deterministic, .tf32 = choices.tf32});
    FROST_CHECK(cuda.backend || automatic, "--device ", name, ": CUDA is not usable: ", cuda.why_not);
    if (cuda.backend) return std::move(cuda.backend);
    note = "; CUDA is not usable: " + cuda.why_not;
  }
  return make_cpu_backend();
}

std::unique_ptr<Backend> open_backend(const std::string& name) {
  std::string note;
  return open_backend(name, {}, note);
}

std::string full_name(const std::string& name, const Backend& backend) {
  if (!backend.supports(DType::f16)) return "cpu";  // no CPU computes with it here
  return "cuda:" + std::to_string(cuda_number(name).value_or(0));
}

}  // namespace

DType compute_type(const std::string& precision, const Backend& backend) {
  const bool gpu = backend.supports(DType::f16);  // no CPU computes with it here
  if (precision == "auto") return gpu && backend.supports(DType::bf16) ? DType::bf16 : DType::f32;
  for (const DType type : {DType::f32, DType::bf16, DType::f16}) {
    if (precision != name_of(type) && !(precision == "half" && type == (gpu ? DType::f16 : DType::bf16))) continue;
    FROST_CHECK(backend.supports(type), "--precision ", precision, ": ", backend.description(),
                " has no instructions for it; use --precision f32");
    return type;
  }
  fail("--precision ", precision, " is not one of auto, f32, bf16, f16");
}

Device::Device(const std::string& name) : Device(open_backend(name)) { name_ = full_name(name, *backend_); }

RunDevice::RunDevice(Device& given, const std::string& precision)
    : device(&given, [](Device*) {}),
      compute(compute_type(precision, given.backend())),
      line(std::string("frost " FROST_VERSION " ") + given.backend().description() + ", " + name_of(compute)) {}

RunDevice::RunDevice(const std::string& name, const std::string& precision, const CudaChoices& choices) {
  std::string note;
  std::unique_ptr<Backend> backend = open_backend(name, choices, note);
  const std::string full = full_name(name, *backend);
  const auto opened = std::make_shared<Device>(std::move(backend), full);
  *this = RunDevice(*opened, precision);
  device = opened;
  line += note;
}

}  // namespace frost
