#include <utility>

#include "kernels/captured.h"

#include "kernels/cuda/check.h"
#include "kernels/cuda/cuda_backend.h"

namespace frost::cuda {
namespace {

/// What the compute stream recorded, as an executable graph.
class Graph final : public Captured {
 public:
  Graph(Context& context, cudaGraph_t graph) : context_(context) {
    const cudaError_t status = cudaGraphInstantiate(&executable_, graph, 0);
    cudaGraphDestroy(graph);
    FROST_CUDA(status);
  }
  ~Graph() override { cudaGraphExecDestroy(executable_); }
  void replay() override { FROST_CUDA(cudaGraphLaunch(executable_, context_.compute)); }

 private:
  Context& context_;
  cudaGraphExec_t executable_ = nullptr;
};

}  // namespace

bool CudaBackend::can_capture() const { return true; }

// Relaxed: memory may be made meanwhile on the copy stream, which is not recorded (Context::allocate).
void CudaBackend::begin_capture() {
  context_.make_current();
  FROST_CUDA(cudaStreamBeginCapture(context_.compute, cudaStreamCaptureModeRelaxed));
  context_.capturing = true;
}

std::unique_ptr<Captured> CudaBackend::end_capture() {
  context_.capturing = false;
  for (void* memory : std::exchange(released_, {})) release(memory);
  cudaGraph_t graph = nullptr;
  FROST_CUDA(cudaStreamEndCapture(context_.compute, &graph));
  return std::make_unique<Graph>(context_, graph);
}

}  // namespace frost::cuda
