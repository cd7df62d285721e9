#pragma once
#include <cstddef>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "kernels/backend.h"

namespace frost {

/// Keeps what it was given: large segments come from the backend once, blocks are cut from them best-fit and joined again
/// when they are returned. A steady training step therefore asks the backend for nothing.
class Allocator {
 public:
  explicit Allocator(Backend& backend) : backend_(backend) {}
  ~Allocator();
  Allocator(const Allocator&) = delete;
  Allocator& operator=(const Allocator&) = delete;

  void* acquire(std::size_t bytes);
  void recycle(void* memory) noexcept;

  std::size_t reserved_bytes() const { return reserved_; }  // taken from the backend
  std::size_t backend_allocations() const { return segments_.size(); }

 private:
  struct Block {
    std::size_t bytes;
    void* segment;  // blocks join only inside one segment
    bool free;
  };
  using Blocks = std::map<char*, Block>;  // by address: neighbours are neighbours
  void insert_free(Blocks::iterator block);
  void erase_free(Blocks::iterator block);

  Backend& backend_;
  Blocks blocks_;
  std::set<std::pair<std::size_t, char*>> free_;  // by size: best fit is lower_bound
  std::vector<void*> segments_;
  std::size_t reserved_ = 0;
};

}  // namespace frost
