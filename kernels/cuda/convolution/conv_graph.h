#pragma once
#include <cudnn.h>

#include <compare>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kernels/cuda/convolution/conv_key.h"

// Of cudnn-frontend, whose headers take half a minute to compile: conv_graph.cpp alone includes them.
namespace cudnn_frontend {
class DeviceProperties;
class ExecutionPlan_v8;
class OpaqueBackendPointer;
}  // namespace cudnn_frontend

/// Convolutions as cuDNN graphs: built, asked for engines, turned into plans. Nothing here needs a GPU but finishing and
/// running a plan: with a described device (described_device()) the tests ask cuDNN for the engines of every convolution
/// that the models use, with the very graphs that the backend runs.
namespace frost::cuda {

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
  std::shared_ptr<cudnn_frontend::OpaqueBackendPointer> config;
  EngineChoice choice;
  bool compiled_at_run_time = false;  // its kernel is compiled when the plan is made: 1 to 5 s, needs a driver
  std::int64_t workspace = 0;         // bytes, as the heuristics report
};

/// For whom graphs are built: the device behind a handle, or a described one.
struct CudnnDevice {
  cudnnHandle_t handle = nullptr;
  std::shared_ptr<const cudnn_frontend::DeviceProperties> properties = nullptr;
};
/// A device that need not be here, from cuDNN's JSON form. Throws Error where cuDNN does not take it.
CudnnDevice described_device(std::string_view json);

class ConvPlan {
 public:
  std::int64_t workspace() const;
  void run(cudnnHandle_t handle, const ConvPointers& pointers, void* workspace) const;
  /// cuDNN's own form of a finished plan, from which ConvGraph::plan makes it again.
  std::string serialized() const;

 private:
  friend class ConvGraph;
  std::shared_ptr<cudnn_frontend::ExecutionPlan_v8> plan_;
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
  /// From ConvPlan::serialized(). Empty where this cuDNN or device does not take it.
  std::optional<ConvPlan> plan(std::string_view serialized) const;

 private:
  struct Graph;  // cudnn-frontend's

  ConvKey key_;
  CudnnDevice device_;
  std::shared_ptr<Graph> graph_;
};

}  // namespace frost::cuda
