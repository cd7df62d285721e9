#pragma once
#include <initializer_list>
#include <type_traits>

#include "kernels/cuda/kernels/vector_access.cuh"

namespace frost::cuda {

template <class A, class B>
using Wider = std::conditional_t<(sizeof(A) > sizeof(B)), A, B>;

/// Queues make(width, items), a kernel over the vectors of `shape`: `width` is a constant, the widest access that all views
/// allow.
template <class T, class Launch, class Make>
void over_vectors(const Launch& launch, std::initializer_list<ConstView> views, const Shape& shape, const Make& make) {
  with_width<T>(views, Tails::handled, [&](auto width) {
    const Items items(shape, width);
    launch.items(items.count(), make(width, items));
  });
}

}  // namespace frost::cuda
