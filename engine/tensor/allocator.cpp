#include "engine/tensor/allocator.h"

#include <algorithm>
#include <cassert>
#include <iterator>

namespace frost {
namespace {
constexpr std::size_t kAlign = 64;
constexpr std::size_t kSegment = std::size_t{8} << 20;  // small requests share segments of this size
std::size_t rounded(std::size_t bytes) { return std::max(kAlign, (bytes + kAlign - 1) / kAlign * kAlign); }
}  // namespace

Allocator::~Allocator() {
  for (void* segment : segments_) backend_.release(segment);
}

void Allocator::insert_free(Blocks::iterator block) { free_.insert({block->second.bytes, block->first}); }
void Allocator::erase_free(Blocks::iterator block) { free_.erase({block->second.bytes, block->first}); }

void* Allocator::acquire(std::size_t bytes) {
  const std::size_t need = rounded(bytes);
  const auto fit = free_.lower_bound({need, nullptr});
  Blocks::iterator block;
  if (fit != free_.end()) {
    block = blocks_.find(fit->second);
    erase_free(block);
  } else {
    const std::size_t segment_bytes = std::max(need, kSegment);
    char* segment = static_cast<char*>(backend_.allocate(segment_bytes));
    segments_.push_back(segment);
    reserved_ += segment_bytes;
    block = blocks_.emplace(segment, Block{segment_bytes, segment, true}).first;
  }
  if (block->second.bytes > need) {  // the rest stays free
    const auto rest =
        blocks_.emplace(block->first + need, Block{block->second.bytes - need, block->second.segment, true}).first;
    block->second.bytes = need;
    insert_free(rest);
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

}  // namespace frost
