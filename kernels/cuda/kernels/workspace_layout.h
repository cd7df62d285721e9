#pragma once
#include <cstddef>
#include <cstdint>

namespace frost::cuda {

/// Cuts memory into arrays that begin at multiples of 256 bytes; bytes() is what it has to hold. From null: counts only.
class Cut {
 public:
  explicit Cut(void* memory) : memory_(static_cast<char*>(memory)) {}
  template <class T>
  T* take(std::int64_t count) {
    T* array = memory_ ? reinterpret_cast<T*>(memory_ + bytes_) : nullptr;
    bytes_ += (static_cast<std::size_t>(count) * sizeof(T) + 255) / 256 * 256;
    return array;
  }
  std::size_t bytes() const { return bytes_; }

 private:
  char* memory_;
  std::size_t bytes_ = 0;
};

}  // namespace frost::cuda
