#pragma once
#include <string>

namespace frost::cuda {

/// What decides whether CUDA can be used, as the runtime, the driver and cuDNN report it.
struct MachineFacts {
  int driver_cuda = 0;   // newest CUDA that the driver serves, 13000 = 13.0; 0: no driver
  int runtime_cuda = 0;  // that this library was built with
  int devices = 0;
  int wanted = 0;                            // device number
  std::string device_name;                   // of the wanted one; the next two as well
  int capability = 0, least_capability = 0;  // 90 = 9.0; the oldest that kernels were compiled for
  long cudnn = 0, cudnn_headers = 0;         // 91900 = 9.19.0: loaded, built with
  long cudnn_cuda = 0;                       // that the loaded cuDNN was built for, 13000
  std::string cudnn_parts;                   // a complaint of cuDNN's about its own libraries, or empty
};

/// One line for the user, or nothing where CUDA is usable. Facts about a device are looked at only where it exists.
std::string why_not_usable(const MachineFacts& facts);

/// "9.19" of 91900 (cuDNN), "13.0" of 13000 (CUDA).
std::string cudnn_version(long number);
std::string cuda_version(long number);

}  // namespace frost::cuda
