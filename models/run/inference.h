#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <vector>

#include "engine/training/captured_step.h"

namespace frost::run {

/// A model in evaluation, batch after batch. Where the device can capture, a shape that comes again is captured and replayed
/// from then on (CapturedStep); a shape that comes once, such as a last batch that is smaller, is simply run.
///
/// Captured graphs hold weights as they were, fused and in the device's own order: where the model's values have changed
/// since the last batch (an average that training moves on), all are dropped, and the batch is run. They are dropped as well
/// where a shape stays and there is no room for one more: batches that are sorted by shape do not return to an earlier one.
/// Captured graphs hold memory, which training wants between two validations: each validation makes its own.
class Inference {
 public:
  /// u8 pixels (n, h, w, 3) on the device become `input`, of the same shape, in the network's type.
  using Prepare = std::function<void(const Tensor& pixels, const Tensor& input)>;
  using Network = std::function<std::vector<Var>(Context&, const Var& input)>;

  /// `capture` false, or a device that cannot: every batch is run.
  Inference(Device&, Module& model, DType compute, bool capture, Prepare, Network);

  /// Makes pixels of the host, (n, h, w, 3), the network's input; `rgb` may be longer. Waits for the device.
  void load(const Shape& shape, const std::vector<std::uint8_t>& rgb);
  /// Queues the network on what was loaded. Its outputs are there until the next load().
  const std::vector<Var>& run();

  std::int64_t replays() const { return work_.replays(); }

 private:
  /// What a captured graph reads and writes under the same addresses each time.
  struct Pass {
    Tensor input;
    std::vector<Var> outputs;
  };
  static CapturedStep::Key key_of(const Shape& shape) { return {shape.n, shape.h, shape.w}; }
  std::vector<std::uint64_t> versions() const;  // of the model's values

  Device& device_;
  Module& model_;
  DType compute_;
  Prepare prepare_;
  Network network_;
  std::map<Shape, Pass> passes_;  // of what is captured, and the one in hand
  Shape shape_{0, 0, 0, 0}, before_{0, 0, 0, 0};
  std::vector<std::uint64_t> versions_;
  CapturedStep work_;
};

}  // namespace frost::run
