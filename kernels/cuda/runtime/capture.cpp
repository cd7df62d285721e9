#include <utility>

#include "kernels/captured.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/runtime/check.h"

namespace frost::cuda {
namespace {

/// What the compute stream captured, as an executable graph, with what it needs.
class Graph final : public Captured {
 public:
  explicit Graph(Context& context) : context_(context) {
    const cudaGraph_t graph = context.end_capture(belongings_);
    const cudaError_t status = cudaGraphInstantiate(&executable_, graph, 0);
    cudaGraphDestroy(graph);
    FROST_CUDA(status);
  }
  ~Graph() override {
    cudaStreamSynchronize(context_.compute);  // a queued replay may still need what is freed now
    cudaGraphExecDestroy(executable_);
  }
  void replay() override { FROST_CUDA(cudaGraphLaunch(executable_, context_.compute)); }

 private:
  Context& context_;
  Context::Belongings belongings_;
  cudaGraphExec_t executable_ = nullptr;
};

}  // namespace

bool CudaBackend::can_capture() const { return true; }
void CudaBackend::begin_capture() { context_.begin_capture(); }
std::unique_ptr<Captured> CudaBackend::end_capture() { return std::make_unique<Graph>(context_); }

}  // namespace frost::cuda
