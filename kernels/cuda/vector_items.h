#pragma once
#include <initializer_list>

#include "kernels/cuda/launch.h"

namespace frost::cuda {

/// Queues make(width, items), a kernel over the vectors of `shape`: `width` is a constant, the widest access that all views
/// allow.
template <class T, class Launch, class Make>
void over_vectors(const Launch& launch, std::initializer_list<ConstView> views, const Shape& shape, const Make& make) {
  with_width<T>(access_width(views), [&](auto width) {
    const Items items(shape, width);
    launch.items(items.count(), make(width, items));
  });
}

}  // namespace frost::cuda
