#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <functional>
#include <type_traits>
#include <utility>
#include <vector>

#include "kernels/backend.h"

namespace frost::testing {

/// One call's memory: the host ranges that its arguments name, and their copies on the device.
class Mirror {
 public:
  explicit Mirror(Backend& device) : device_(device) {}
  ~Mirror() {
    for (const auto& block : blocks_) device_.release(block.memory);
  }
  Mirror(const Mirror&) = delete;
  Mirror& operator=(const Mirror&) = delete;

  template <class T>
  void in(const T*& pointer, std::int64_t count) {
    note(pointer, static_cast<std::size_t>(count) * sizeof(T), false, [this, &pointer] { pointer = translated(pointer); });
  }
  template <class T>
  void out(T*& pointer, std::int64_t count) {
    note(pointer, static_cast<std::size_t>(count) * sizeof(T), true, [this, &pointer] { pointer = translated(pointer); });
  }
  void out(void*& pointer, std::size_t bytes) {
    note(pointer, bytes, true, [this, &pointer] { pointer = translated(pointer); });
  }
  void in(ConstView& view) {
    note(view.data, bytes(view), false, [this, &view] { view.data = translated(view.data); });
  }
  void out(View& view) {
    note(view.data, bytes(view), true, [this, &view] { view.data = translated(view.data); });
  }

  /// Copies to the device, calls, checks and copies back.
  template <class Call>
  auto run(const Call& call) {
    to_device();
    if constexpr (std::is_void_v<decltype(call())>) {
      call();
      from_device();
    } else {
      auto result = call();
      from_device();
      return result;
    }
  }

 private:
  static constexpr std::size_t kGuard = 1024;  // bytes on both sides
  static constexpr std::uint8_t kPattern = 0xa5;
  struct Range {
    const std::uint8_t* host;
    std::size_t bytes;
    bool written;
  };
  struct Block {
    Range range;
    void* memory;                     // on the device, with guards
    std::size_t before;               // bytes of guard in front
    std::vector<std::uint8_t> image;  // what was uploaded
  };

  static std::size_t bytes(const ConstView& v) {
    const Shape& s = v.shape;
    if (s.elements() == 0) return 0;
    return static_cast<std::size_t>((s.pixels() - 1) * v.pitch + s.c) * size_of(v.dtype);
  }
  void note(const void* host, std::size_t bytes, bool written, std::function<void()> patch) {
    if (!host || bytes == 0) return;
    ranges_.push_back({static_cast<const std::uint8_t*>(host), bytes, written});
    patches_.push_back(std::move(patch));
  }
  template <class T>
  T* translated(T* pointer) const {
    const auto* host = reinterpret_cast<const std::uint8_t*>(pointer);
    for (const Block& b : blocks_)
      if (host >= b.range.host && host < b.range.host + b.range.bytes)
        return reinterpret_cast<T*>(static_cast<std::uint8_t*>(b.memory) + b.before + (host - b.range.host));
    fail("mirror: a pointer that was not noted");
  }

  /// Ranges that overlap (a result in place of an input, slices of one tensor) become one block.
  void to_device() {
    std::vector<Range> order = ranges_;
    std::sort(order.begin(), order.end(), [](const Range& a, const Range& b) { return a.host < b.host; });
    std::vector<Range> merged;
    for (const Range& r : order) {
      if (!merged.empty() && r.host < merged.back().host + merged.back().bytes) {
        Range& last = merged.back();
        last.bytes = std::max(last.bytes, static_cast<std::size_t>(r.host - last.host) + r.bytes);
        last.written = last.written || r.written;
      } else {
        merged.push_back(r);
      }
    }
    for (const Range& r : merged) {
      // The address' last bits stay: they decide which vector width a kernel takes.
      const std::size_t before = kGuard + reinterpret_cast<std::uintptr_t>(r.host) % 256;
      Block block{r, nullptr, before, std::vector<std::uint8_t>(before + r.bytes + kGuard, kPattern)};
      std::memcpy(block.image.data() + before, r.host, r.bytes);
      block.memory = device_.allocate(block.image.size());
      blocks_.push_back(std::move(block));
      device_.upload(blocks_.back().memory, blocks_.back().image.data(), blocks_.back().image.size());
    }
    for (const auto& patch : patches_) patch();
  }
  void from_device() {
    device_.synchronize();
    for (const Block& b : blocks_) {
      std::vector<std::uint8_t> now(b.image.size());
      device_.download(now.data(), b.memory, now.size());
      const auto same = [&](std::size_t from, std::size_t count) {
        return std::equal(now.begin() + static_cast<std::ptrdiff_t>(from),
                          now.begin() + static_cast<std::ptrdiff_t>(from + count),
                          b.image.begin() + static_cast<std::ptrdiff_t>(from));
      };
      FROST_CHECK(same(0, b.before) && same(b.before + b.range.bytes, kGuard),
                  "mirror: a kernel wrote outside of its argument of ", b.range.bytes, " bytes");
      FROST_CHECK(b.range.written || same(b.before, b.range.bytes), "mirror: a kernel wrote to an input of ", b.range.bytes,
                  " bytes");
      if (b.range.written) std::memcpy(const_cast<std::uint8_t*>(b.range.host), now.data() + b.before, b.range.bytes);
    }
  }

  Backend& device_;
  std::vector<Range> ranges_;
  std::vector<std::function<void()>> patches_;
  std::vector<Block> blocks_;
};

}  // namespace frost::testing
