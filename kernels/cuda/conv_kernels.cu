#include "kernels/cuda/conv_kernels.h"

#include "kernels/cuda/conv_engine.h"
#include "kernels/cuda/run.h"

namespace frost::cuda {

void queue_pack(Context& context, const ConstView& from, const View& to) { pack(Launch(context), from, to); }
void queue_deliver(Context& context, const ConstView& from, const float* bias, const Activation& activation, const View& y) {
  deliver(Launch(context), from, bias, activation, y);
}
void queue_deliver_filters(Context& context, const ConstView& from, const View& to, bool accumulate) {
  deliver_filters(Launch(context), from, to, accumulate);
}
void queue_sums(Context& context, const ConstView& dy, float* partial, float* to, bool accumulate) {
  sum_channels(Launch(context), dy, partial, to, accumulate);
}

}  // namespace frost::cuda
