#include "kernels/cuda_loader.h"

#include <dlfcn.h>

#include <cstdlib>
#include <filesystem>
#include <system_error>
#include <vector>

namespace frost {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> candidates() {
  std::vector<std::string> paths;
  std::error_code failed;
  const fs::path program = fs::read_symlink("/proc/self/exe", failed);
  if (!failed)
    for (const fs::path& path : {program.parent_path() / kCudaLibrary, program.parent_path() / ".." / "lib" / kCudaLibrary})
      if (fs::exists(path, failed)) paths.push_back(path.lexically_normal().string());
  paths.emplace_back(kCudaLibrary);  // the dynamic linker's own search
  return paths;
}

std::string last_error() {
  const char* text = dlerror();
  return text ? text : "unknown error";
}

/// dlopen's message for the user: it is either our library that is missing, or one that ours needs.
std::string cannot_open(const std::string& path, const std::string& message) {
  const auto end = message.find(": cannot open shared object file");
  if (end == std::string::npos) return message;
  const std::string missing = message.substr(0, end);
  if (missing != path) return std::string(kCudaLibrary) + " needs " + missing + ", which is not installed";
  return path == kCudaLibrary ? "this build has no CUDA backend (libfrost_cuda.so not found)" : path + " not found";
}

}  // namespace

CudaResult load_cuda(const CudaOptions& options) {
  const char* given = std::getenv("FROST_CUDA_LIBRARY");
  if (!given) {
    // First check what a machine without a GPU lacks: this is quick, opening cuDNN and cuBLAS is not.
    if (void* driver = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL))
      dlclose(driver);
    else
      return {nullptr, "no NVIDIA driver (libcuda.so.1 not found)"};
  }

  void* library = nullptr;
  std::string why, opened;
  for (const auto& path : given ? std::vector<std::string>{given} : candidates()) {
    // Never closed: the backend's code and cuDNN's threads use it until the program ends.
    library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    opened = path;
    if (library) break;
    if (why.empty()) why = cannot_open(path, last_error());  // of the nearest one
  }
  if (!library) return {nullptr, why};

  const auto interface = reinterpret_cast<CudaInterface*>(dlsym(library, kCudaInterfaceFunction));
  const auto make = reinterpret_cast<MakeCudaBackend*>(dlsym(library, kCudaBackendFunction));
  if (!interface || !make || std::string(interface()) != FROST_INTERFACE)
    return {nullptr, opened + " belongs to another build of frost"};
  CudaResult result;
  make(options, result.backend, result.why_not);
  return result;
}

}  // namespace frost
