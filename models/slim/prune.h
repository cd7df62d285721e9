#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "engine/nn/layers.h"

namespace frost::slim {

/// What pruning does to weights: a mask (Parameter::mask) says which stay; the others are zero and stay zero through
/// training, since the optimizer's fused step applies the mask. Masks alone make nothing faster (docs/pruning.md).

/// The convolutions whose weights may be pruned, in module order, the head's too (docs/spec/freeze_prune.md section 2).
std::vector<Conv2d*> prunable(Module& model);

/// How many of n weights the share `amount` is: amount * n, halves to even.
std::int64_t pruned_count(double amount, std::int64_t n);

/// Which `count` of `values` have the smallest magnitude (true: prune). Of equal magnitudes at the threshold PyTorch 1.13
/// takes those that the C++ library's nth_element leaves first (docs/spec/freeze_prune.md section 2); so does this.
std::vector<bool> smallest(const std::vector<float>& values, std::int64_t count);

/// Masks the `amount` of a parameter's smallest weights.
void mask_smallest(Parameter& parameter, double amount);
/// Masks each convolution's `amount` of smallest weights: YOLOv5's L1 pruning. A weight that is masked stays so, as its
/// magnitude is 0.
void prune_l1(Module& model, double amount);
/// As prune_l1, with one threshold for the weights of all convolutions together.
void prune_global(Module& model, double amount);
/// N:M masks: of each `m` neighbouring input channels at one position of a filter the `n` largest weights stay. That is the
/// order in which NVIDIA's sparse tensor cores read a weight matrix kept OHWI. Convolutions whose input channels (of a
/// group) are no multiple of `m` stay dense: their names are returned.
std::vector<std::string> prune_n_of_m(Module& model, int n, int m);

/// Sets the parameter's mask (1: stays) and zeroes what it takes away, as +0. `keep`: in the order of the PyTorch tensor.
void set_mask(Parameter& parameter, const std::vector<bool>& keep);

struct LayerSparsity {
  std::string name;  // of the parameter
  std::vector<std::int64_t> shape;
  std::int64_t zeros = 0, count = 0;
  bool masked = false;
};
struct Sparsity {
  std::vector<LayerSparsity> layers;       // the convolutions' weights, in module order
  std::int64_t zeros = 0, parameters = 0;  // of all parameters: YOLOv5's global sparsity
  std::int64_t weight_zeros = 0, weights = 0;
  double global() const { return parameters ? static_cast<double>(zeros) / static_cast<double>(parameters) : 0; }
};
Sparsity sparsity(Module& model);
/// One row for each convolution, then all weights and all parameters.
std::string sparsity_table(const Sparsity& sparsity);
/// "Model pruned to 0.3 global sparsity", as YOLOv5 v7.0 says it.
std::string pruned_line(const Sparsity& sparsity);
/// "sparsity 0.498 (60 of 60 convolutions masked)"; "" for a dense model.
std::string sparsity_line(const Sparsity& sparsity);

}  // namespace frost::slim
