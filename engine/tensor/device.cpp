#include "engine/tensor/device.h"

namespace frost {

void* Device::acquire(std::size_t bytes) {
  try {
    return allocator_.acquire(bytes);
  } catch (const OutOfMemory& error) {
    fail(out_of_memory(error));
  }
}

std::string Device::out_of_memory(const OutOfMemory& error) const {
  return std::string(error.what()) + "; " + ledger_.in_use() +
         ". A smaller --batch-size or --imgsz, --freeze 10 or --precision bf16 need less";
}

}  // namespace frost
