#pragma once
#include <compare>
#include <cstdint>
#include <optional>
#include <ostream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kernels/conv.h"
#include "kernels/cuda/descriptor.h"

/// Convolutions as cuDNN graphs: built, asked for engines, turned into plans. Nothing here needs a GPU but finishing and
/// running a plan: with a described device (DescribedDevice) the tests ask cuDNN for the engines of every convolution that
/// the models use, with the very graphs that the backend runs.
namespace frost::cuda {

enum class ConvPass : std::uint8_t { forward, backward_data, backward_weight };
const char* name_of(ConvPass);

/// One convolution as cuDNN sees it: packed tensors, padded channels. Everything that decides which engines can run it and
/// which is fastest; finished plans are looked up by it, in memory and on disk.
struct ConvKey {
  ConvPass pass = ConvPass::forward;
  ConvGeometry geometry;
  Shape x, y;
  DType dtype = DType::f32;  // of all tensors; sums are f32
  bool bias = false;         // forward: y = activation(conv + bias) in one kernel; the bias' type: bias_type()
  Activation activation = {};
  int alignment = 16;  // bytes, to which all operands are aligned
  bool tf32 = false;   // f32 may be rounded to TF32's 10 bits of mantissa
  bool deterministic = false;
  auto operator<=>(const ConvKey&) const = default;

  Shape filters() const {  // out channels, kernel rows, kernel columns, in channels of a group: OHWI
    return {y.c, geometry.kernel_h, geometry.kernel_w, x.c / geometry.groups};
  }
};
/// "forward f16 3x3/2 16x640x640x8 -> 16x320x320x16"; not every field.
std::ostream& operator<<(std::ostream&, const ConvKey&);
/// Every field, in one word: the name of a plan on disk.
std::string identifier(const ConvKey&);

/// The key of a call whose tensors have shapes x and y. Channels grow to multiples of 8 for the 16-bit types and of 4 for
/// TF32, the 16 bytes that tensor-core engines load at once: unpadded, a 255-channel head makes cuDNN copy 52 MB to its
/// workspace and a 3-channel stem falls to its slowest engines (measured by the heuristics' workspace, batch 16 at 640).
/// Depthwise filters grow by whole groups; other grouped convolutions stay as they are. Plain f32 gains nothing.
ConvKey conv_key(ConvPass pass, const ConvGeometry& geometry, const Shape& x, const Shape& y, DType dtype, bool tf32 = false,
                 bool deterministic = false);

/// The type in which the graph wants the bias: engines that come compiled take their own type with a linear or ReLU end;
/// the others are compiled at run time and take f32.
DType bias_type(const ConvKey&);

/// Can cuDNN apply it to the sums before they are written? Others are our own kernel's work.
bool fuses(const Activation&);

/// Multiply-adds count twice; bytes: each tensor moved once.
struct ConvCost {
  double flops, bytes;
};
ConvCost cost(const ConvKey&);

/// What to run: an engine by its number and the values of its knobs. Means the same only for one version of cuDNN.
struct EngineChoice {
  std::int64_t engine = 0;
  std::vector<std::pair<std::int64_t, std::int64_t>> knobs;
  auto operator<=>(const EngineChoice&) const = default;
};
/// "28" or "12:1=0,24=3", and back; empty where the text is none.
std::string to_text(const EngineChoice&);
std::optional<EngineChoice> engine_choice(std::string_view text);

struct Candidate {
  Descriptor config;
  EngineChoice choice;
  bool compiled_at_run_time = false;  // its kernel is compiled when the plan is made: 1 to 5 s, needs a driver
  std::int64_t workspace = 0;         // bytes, as the heuristics tell
};

/// For whom graphs are built: the device behind a handle, or a described one.
struct CudnnDevice {
  cudnnHandle_t handle = nullptr;
  const Descriptor* properties = nullptr;
};
/// A device that need not be here, from cuDNN's JSON form. Throws Error where cuDNN does not take it.
Descriptor described_device(std::string_view json);

/// What a plan's execution is given; null where the graph has no such operand.
struct ConvPointers {
  void *x = nullptr, *y = nullptr, *filters = nullptr, *bias = nullptr;
};

class ConvPlan {
 public:
  std::int64_t workspace() const { return workspace_; }
  void run(cudnnHandle_t handle, const ConvPointers& pointers, void* workspace) const;

 private:
  friend class ConvGraph;
  Descriptor plan_;
  std::int64_t workspace_ = 0;
  bool bias_ = false;
};

class ConvGraph {
 public:
  /// Throws Error where cuDNN refuses the shapes or types.
  ConvGraph(const ConvKey& key, const CudnnDevice& device);

  /// What the heuristics offer, best first, at most `most`; their fallbacks where they offer nothing. Left out: what the key
  /// forbids (other results from run to run, rounded inputs, short sums). May be empty.
  std::vector<Candidate> candidates(std::int64_t most) const;
  /// A choice that was made before; empty where this cuDNN does not have it, or the key forbids it.
  std::optional<Candidate> candidate(const EngineChoice& choice) const;
  /// Needs a GPU. Empty where the engine turns out not to support the graph.
  std::optional<ConvPlan> plan(const Candidate& candidate) const;

 private:
  std::optional<Candidate> describe(Descriptor config) const;
  void offer(cudnnBackendHeurMode_t mode, std::int64_t most, std::vector<Candidate>& to) const;

  ConvKey key_;
  CudnnDevice device_;
  Descriptor graph_;
};

}  // namespace frost::cuda
