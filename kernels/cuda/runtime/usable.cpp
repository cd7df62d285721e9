#include "kernels/cuda/runtime/usable.h"

#include "kernels/error.h"

namespace frost::cuda {
namespace {

std::string dotted(long major, long minor) { return std::to_string(major) + "." + std::to_string(minor); }

}  // namespace

std::string cudnn_version(long number) { return dotted(number / 10000, number / 100 % 100); }
std::string cuda_version(long number) { return dotted(number / 1000, number / 10 % 100); }

std::string why_not_usable(const MachineFacts& f) {
  using frost::detail::join;
  if (f.driver_cuda == 0) return "no NVIDIA driver";
  // Within one major version an older driver serves a newer runtime.
  if (f.driver_cuda / 1000 < f.runtime_cuda / 1000)
    return join("the NVIDIA driver serves CUDA ", cuda_version(f.driver_cuda), "; this build needs a driver for CUDA ",
                f.runtime_cuda / 1000, ".0 or newer");
  if (f.devices == 0) return "no CUDA device";
  if (f.wanted < 0 || f.wanted >= f.devices)
    return join("there is no CUDA device ", f.wanted, ": this machine has ", f.devices,
                f.devices == 1 ? ", number 0" : join(", numbers 0 to ", f.devices - 1));
  if (f.capability < f.least_capability)
    return join(f.device_name, " has compute capability ", dotted(f.capability / 10, f.capability % 10),
                "; this build needs ", dotted(f.least_capability / 10, f.least_capability % 10), " or newer");
  if (f.cudnn / 10000 != f.cudnn_headers / 10000 || f.cudnn / 100 < f.cudnn_headers / 100)
    return join("cuDNN ", cudnn_version(f.cudnn), " is installed; this build needs ", cudnn_version(f.cudnn_headers),
                " or a newer one of version ", f.cudnn_headers / 10000);
  if (f.cudnn_cuda / 1000 != f.runtime_cuda / 1000)
    return join("the installed cuDNN is made for CUDA ", f.cudnn_cuda / 1000, "; this build needs the one for CUDA ",
                f.runtime_cuda / 1000);
  if (!f.cudnn_parts.empty()) return join("cuDNN's libraries are of different versions: ", f.cudnn_parts);
  return {};
}

}  // namespace frost::cuda
