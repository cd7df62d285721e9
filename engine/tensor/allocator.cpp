#include "engine/tensor/allocator.h"

#include <algorithm>
#include <cassert>
#include <iterator>

#include "kernels/out_of_memory.h"

namespace frost {
namespace {
constexpr std::size_t kAlign = 64;
constexpr std::size_t kSegment = std::size_t{8} << 20;  // small requests share segments of this size
std::size_t rounded(std::size_t bytes) { return std::max(kAlign, (bytes + kAlign - 1) / kAlign * kAlign); }
}  // namespace

Allocator::~Allocator() {
  for (const auto& [segment, bytes] : segments_) backend_.release(segment);
}

Allocator::Pool::~Pool() {
  if (this == &allocator_.shared_) return;
  for (auto& [memory, block] : allocator_.blocks_)
    if (block.pool == this) block.pool = &allocator_.shared_;
  allocator_.shared_.free_.merge(free_);
}

std::size_t Allocator::Pool::free_bytes() const {
  std::size_t bytes = 0;
  for (const auto& [size, memory] : free_) bytes += size;
  return bytes;
}

void Allocator::insert_free(Blocks::iterator block) {
  block->second.pool->free_.insert({block->second.bytes, block->first});
}
void Allocator::erase_free(Blocks::iterator block) { block->second.pool->free_.erase({block->second.bytes, block->first}); }

std::pair<char*, std::size_t> Allocator::from_backend(std::size_t wanted, std::size_t least) {
  try {
    return {static_cast<char*>(backend_.allocate(wanted)), wanted};
  } catch (const OutOfMemory&) {
    trim();
    return {static_cast<char*>(backend_.allocate(least)), least};
  }
}

Allocator::Blocks::iterator Allocator::new_segment(std::size_t need) {
  const auto [segment, bytes] = from_backend(std::max(need, kSegment), need);
  segments_[segment] = bytes;
  reserved_ += bytes;
  return blocks_.emplace(segment, Block{bytes, segment, pool_, true}).first;
}

void* Allocator::acquire(std::size_t bytes) {
  const std::size_t need = rounded(bytes);
  const auto fit = pool_->free_.lower_bound({need, nullptr});
  Blocks::iterator block;
  if (fit != pool_->free_.end()) {
    block = blocks_.find(fit->second);
    erase_free(block);
  } else {
    block = new_segment(need);
  }
  if (block->second.bytes > need) {  // the rest stays free
    Block rest = block->second;
    rest.bytes -= need;
    rest.free = true;
    block->second.bytes = need;
    insert_free(blocks_.emplace(block->first + need, rest).first);
  }
  block->second.free = false;
  return block->first;
}

void Allocator::recycle(void* memory) noexcept {
  auto block = blocks_.find(static_cast<char*>(memory));
  assert(block != blocks_.end() && !block->second.free);
  block->second.free = true;
  const auto joins = [](Blocks::iterator a, Blocks::iterator b) {
    return b->second.free && a->second.segment == b->second.segment;
  };
  if (const auto next = std::next(block); next != blocks_.end() && joins(block, next)) {
    erase_free(next);
    block->second.bytes += next->second.bytes;
    blocks_.erase(next);
  }
  if (block != blocks_.begin()) {
    const auto previous = std::prev(block);
    if (joins(block, previous)) {
      erase_free(previous);
      previous->second.bytes += block->second.bytes;
      blocks_.erase(block);
      block = previous;
    }
  }
  insert_free(block);
}

void Allocator::trim() noexcept {
  for (auto segment = segments_.begin(); segment != segments_.end();) {
    const auto block = blocks_.find(segment->first);
    if (!block->second.free || block->second.pool != &shared_ || block->second.bytes != segment->second) {
      ++segment;
      continue;
    }
    erase_free(block);
    blocks_.erase(block);
    backend_.release(segment->first);
    reserved_ -= segment->second;
    segment = segments_.erase(segment);
  }
}

}  // namespace frost
