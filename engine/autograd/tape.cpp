#include "engine/autograd/tape.h"

#include <cassert>

#include "engine/autograd/parameter.h"

namespace frost {

float* Parameter::grad_f32() {
  FROST_CHECK(trainable, "parameter ", name, " is frozen: it has no gradient");
  if (!grad) grad = Tensor::zeros(value.device(), value.shape(), DType::f32, Role::gradient);
  return grad.f32();
}

Saved Saved::source(const Var& var) {
  Saved saved;
  if (var.rematerialization)
    saved.rematerialization_ = var.rematerialization;
  else
    saved.tensor_ = var.value;
  return saved;
}

void Saved::account() const {
  if (rematerialization_)
    for (const Saved& source : rematerialization_->sources) source.account();
  else if (tensor_.storage().role() == Role::activation)
    tensor_.storage().set_role(Role::saved_activation);
}

const Shape& Saved::shape() const { return rematerialization_ ? rematerialization_->shape : tensor_.shape(); }

Tensor Saved::get() const {
  if (!rematerialization_) return tensor_;
  if (!rematerialization_->made) {
    Tensor made(*rematerialization_->device, rematerialization_->shape, rematerialization_->dtype);
    rematerialization_->write(made, rematerialization_->sources);
    rematerialization_->made = made;
  }
  return rematerialization_->made;
}

void Saved::write(View target) const {
  if (rematerialization_ && !rematerialization_->made) return rematerialization_->write(target, rematerialization_->sources);
  const Tensor source = get();
  source.backend().copy({.x = source, .y = target});
}

Var Tape::leaf(Tensor value) {
  is_leaf_.resize(static_cast<std::size_t>(slots_) + 1);
  is_leaf_.back() = true;
  return {std::move(value), slots_++, nullptr};
}

Var Tape::record(Tensor value, std::unique_ptr<Node> node, const std::vector<const Var*>& inputs) {
  for (const Var* input : inputs) node->inputs_.push_back(input->slot);
  node->output_ = slots_;
  node->scope_ = value.device().scope();
  nodes_.push_back(std::move(node));
  return {std::move(value), slots_++, nullptr};
}

void Tape::accumulate(int slot, Tensor grad) {
  Tensor& sum = grads_[static_cast<std::size_t>(slot)];
  if (!sum) {
    sum = std::move(grad);
    return;
  }
  Backend& backend = sum.backend();
  if (!sum.shares_storage()) {  // ours alone: add in place
    backend.add({.a = sum, .b = grad, .y = sum});
  } else if (!grad.shares_storage() && grad.packed()) {
    backend.add({.a = sum, .b = grad, .y = grad});
    sum = std::move(grad);
  } else {  // a residual's dy or a slice of a concatenation: others still read that memory
    Tensor total(sum.device(), sum.shape(), sum.dtype());
    backend.add({.a = sum, .b = grad, .y = total});
    sum = std::move(total);
  }
}

void Tape::backward(std::vector<std::pair<int, Tensor>> seeds) {
  grads_.resize(static_cast<std::size_t>(slots_));
  is_leaf_.resize(static_cast<std::size_t>(slots_));
  for (auto& [slot, grad] : seeds)
    if (slot >= 0) accumulate(slot, std::move(grad));
  seeds.clear();
  while (!nodes_.empty()) {
    const std::unique_ptr<Node> node = std::move(nodes_.back());
    nodes_.pop_back();
    Tensor dy = std::move(grads_[static_cast<std::size_t>(node->output_)]);
    grads_[static_cast<std::size_t>(node->output_)] = Tensor();
    if (!dy) continue;  // nothing below the seeds depends on it
    const Device::ScopeGuard scope(dy.device(), node->scope_);
    Grads grads = node->backward(std::move(dy));
    assert(grads.size() == node->inputs_.size());
    for (std::size_t i = 0; i < grads.size(); ++i)
      if (node->inputs_[i] >= 0 && grads[i]) accumulate(node->inputs_[i], std::move(grads[i]));
  }
  for (std::size_t slot = 0; slot < grads_.size(); ++slot)
    if (!is_leaf_[slot]) grads_[slot] = Tensor();
}

Tensor Tape::gradient(const Var& leaf) const {
  return leaf.slot >= 0 && static_cast<std::size_t>(leaf.slot) < grads_.size() ? grads_[static_cast<std::size_t>(leaf.slot)]
                                                                               : Tensor();
}

}  // namespace frost
