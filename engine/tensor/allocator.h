#pragma once
#include <cstddef>
#include <map>
#include <set>
#include <utility>

#include "kernels/backend.h"

namespace frost {

/// Keeps what it was given: large segments come from the backend once, blocks are cut from them best-fit and joined again
/// when they are returned. A steady training step therefore asks the backend for nothing.
///
/// Blocks are used again in the order of the calls: all work of a device goes down one stream, so what a new owner queues
/// comes after what the last one queued, though nothing may have run yet. Transfers on other streams join it before they
/// touch a block (Backend::upload).
class Allocator {
 public:
  explicit Allocator(Backend& backend) : backend_(backend), shared_(*this), pool_(&shared_) {}
  ~Allocator();
  Allocator(const Allocator&) = delete;
  Allocator& operator=(const Allocator&) = delete;

  /// Segments of its own. Work that was captured has addresses in it, so what it returns is for the pool's next blocks
  /// alone. A pool that goes leaves its memory, blocks in use among it, to everybody.
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
  /// While it lives, blocks come from `pool`.
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
  /// A block of the backend's own, for what lives long: cut from a segment, it would hold on to all of it. It ends with
  /// Backend::release. Throws as acquire().
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
