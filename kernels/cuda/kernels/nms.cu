#include "kernels/cuda/kernels/nms.cuh"

#include <cub/device/device_radix_sort.cuh>

#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/kernels/kernel_launch.cuh"

namespace frost::cuda {
namespace {

/// Launch, and CUB's radix sort of keys.
class SortingLaunch : public Launch {
 public:
  explicit SortingLaunch(Context& context) : Launch(context), stream_(context.compute) {}
  std::size_t sort_bytes(std::int64_t count) const {
    std::size_t bytes = 0;
    const std::uint64_t* from = nullptr;
    std::uint64_t* to = nullptr;
    FROST_CUDA(cub::DeviceRadixSort::SortKeys(nullptr, bytes, from, to, count, 0, 64, stream_));
    return bytes;
  }
  void sort(const std::uint64_t* from, std::uint64_t* to, std::int64_t count, void* memory, std::size_t bytes) const {
    FROST_CHECK(sort_bytes(count) <= bytes, "nms: the sort of ", count, " keys needs more than ", bytes, " bytes");
    FROST_CUDA(cub::DeviceRadixSort::SortKeys(memory, bytes, from, to, count, 0, 64, stream_));
  }

 private:
  cudaStream_t stream_;
};

}  // namespace

std::vector<std::vector<Detection>> CudaBackend::nms(const Nms& a) { return cuda::nms(SortingLaunch(context_), a); }

}  // namespace frost::cuda
