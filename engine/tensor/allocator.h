#pragma once
#include <cstddef>
#include <map>
#include <set>
#include <utility>

#include "kernels/backend.h"

namespace frost {

/// A caching allocator. Large segments come from the backend once. Blocks are cut from them best-fit and joined again when
/// they are returned. So a steady training step allocates nothing from the backend.
///
/// A block may be reused while its old work is still queued: all work of a device is on one stream, so the new owner's work
/// runs after the old owner's. Transfers on other streams wait for this stream before they touch a block (Backend::upload).
class Allocator {
 public:
  explicit Allocator(Backend& backend) : backend_(backend), shared_(*this), pool_(&shared_) {}
  ~Allocator();
  Allocator(const Allocator&) = delete;
  Allocator& operator=(const Allocator&) = delete;

  /// Segments of its own. Captured work holds addresses in them, so returned blocks are reused only by this pool. When a
  /// pool is destroyed, the allocator takes over its memory, also the blocks in use.
  class Pool {
   public:
    explicit Pool(Allocator& allocator) : allocator_(allocator) {}
    ~Pool();
    Pool(const Pool&) = delete;
    Pool& operator=(const Pool&) = delete;
    std::size_t free_bytes() const;  // its own, between blocks in use

   private:
    friend class Allocator;
    Allocator& allocator_;
    std::set<std::pair<std::size_t, char*>> free_;  // by size: best fit is lower_bound
  };
  /// While it exists, blocks come from `pool`.
  class PoolGuard {
   public:
    PoolGuard(Allocator& allocator, Pool& pool) : allocator_(allocator), before_(allocator.pool_) {
      allocator.pool_ = &pool;
    }
    ~PoolGuard() { allocator_.pool_ = before_; }
    PoolGuard(const PoolGuard&) = delete;
    PoolGuard& operator=(const PoolGuard&) = delete;

   private:
    Allocator& allocator_;
    Pool* before_;
  };

  /// Throws OutOfMemory where the backend has nothing left, even after the unused segments went back to it.
  void* acquire(std::size_t bytes);
  void recycle(void* memory) noexcept;
  /// A block directly from the backend, for long use: a block cut from a segment would keep the whole segment. Return it
  /// with Backend::release. Throws as acquire().
  void* acquire_apart(std::size_t bytes) { return from_backend(bytes, bytes).first; }
  /// Gives segments that nobody uses back to the backend, but not those of pools.
  void trim() noexcept;

  std::size_t reserved_bytes() const { return reserved_; }  // taken from the backend
  std::size_t backend_allocations() const { return segments_.size(); }

 private:
  struct Block {
    std::size_t bytes;
    char* segment;  // blocks join only inside one segment
    Pool* pool;
    bool free;
  };
  using Blocks = std::map<char*, Block>;  // by address: neighbours are neighbours
  static void insert_free(Blocks::iterator block);
  static void erase_free(Blocks::iterator block);
  std::pair<char*, std::size_t> from_backend(std::size_t wanted, std::size_t least);  // and how much it is
  Blocks::iterator new_segment(std::size_t need);

  Backend& backend_;
  Blocks blocks_;
  std::map<char*, std::size_t> segments_;  // bytes of each
  std::size_t reserved_ = 0;
  Pool shared_;
  Pool* pool_;  // where blocks come from now
};

}  // namespace frost
