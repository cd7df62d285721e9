#pragma once
#include <cstdint>
#include <memory>
#include <string>

#include "kernels/conv.h"

namespace frost::cpu {

/// oneDNN's convolutions behind frost's contract. A *plan* (primitive, layouts, reorders) is made once for each distinct
/// call signature; filters are converted once for each version; everything else that a call needs is in one scratch buffer
/// that only grows, so a steady step allocates nothing. For use by one thread at a time.
///
/// oneDNN 2.6.3 keeps its fast kernels for dense NHWC only: with a pixel pitch wider than the channels every pass uses
/// `ref:any` (measured 0.3 to 1 GFLOP/s against 100 to 270). So a channel slice is copied through the scratch buffer.
class ConvEngine {
 public:
  ConvEngine();
  ~ConvEngine();

  void forward(const ConvForward&);
  void backward_data(const ConvBackwardData&);
  void backward_weight(const ConvBackwardWeight&);

  /// What oneDNN found in this machine: "avx512_core_bf16".
  static std::string instruction_set();
  /// Does the CPU multiply bf16 itself?
  static bool has_bf16();

  struct Counters {
    std::int64_t plans = 0;            // signatures seen
    std::int64_t filter_reorders = 0;  // conversions of filters to a kernel's own order
    std::int64_t filter_bytes = 0;     // held for filters
    std::int64_t scratch_bytes = 0;    // held for everything else
    auto operator<=>(const Counters&) const = default;
  };
  Counters counters() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace frost::cpu
