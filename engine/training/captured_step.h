#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "engine/nn/module.h"
#include "engine/tensor/device.h"
#include "kernels/captured.h"

namespace frost {

/// Runs work that queues the same calls again and again. Where the device can capture (CUDA graphs), work that was run once
/// with a key is captured the second time and replayed from then on: the host queues one call instead of some hundred.
///
/// The key is all that the calls depend on: shapes, capacities, what is frozen. Values must reach the work through device
/// memory at a fixed address. Inside, nothing may wait for the device or come from the host.
class CapturedStep {
 public:
  using Key = std::vector<std::int64_t>;

  /// `model`, if any: what the work changes of it on the host (counters, versions) is repeated by each replay.
  /// `enabled` false, or a device that cannot capture: the work is simply run.
  CapturedStep(Device& device, Module* model, bool enabled);
  ~CapturedStep();

  void run(const Key& key, const std::function<void()>& work);

  /// Discards all captured graphs and their memory. Call it when memory that they use has moved (parameters were unfrozen).
  void forget();

  bool captures() const { return enabled_; }
  /// Is the work of this key replayed from now on? Then what it reads and writes must not move.
  bool captured(const Key& key) const {
    const auto it = graphs_.find(key);
    return it != graphs_.end() && it->second.work;
  }
  /// Is it, or will it be at the next call? When kMost graphs are captured, work of other keys is simply run, until all
  /// graphs are discarded.
  bool will_capture(const Key& key) const { return enabled_ && (captured(key) || captured_ < kMost); }
  std::int64_t replays() const { return replays_; }

 private:
  /// One key's captured graph, and what the host has to repeat.
  struct Graph {
    bool ran = false;
    std::unique_ptr<Captured> work;
    std::vector<Parameter*> parameters;
    std::vector<Buffer*> buffers;
    std::vector<std::pair<Counter*, std::int64_t>> counters;
  };
  static constexpr std::size_t kMost = 8;  // captured graphs
  void capture(Graph& graph, const std::function<void()>& work);
  void repeat_on_host(Graph& graph);
  void account(std::size_t bytes);

  Device& device_;
  Module* model_;
  bool enabled_;
  std::int64_t replays_ = 0;
  std::size_t captured_ = 0;
  // The memory of all captured graphs: they run one after the other, so they can share it.
  std::optional<Allocator::Pool> pool_;
  std::size_t accounted_ = 0;  // of the pool
  std::map<Key, Graph> graphs_;
};

}  // namespace frost
