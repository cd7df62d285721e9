#pragma once
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "engine/tensor/tensor.h"

namespace frost {

struct Rematerialization;
struct Parameter;

/// A value of the forward pass. `slot` is its place on the tape, where its gradient is summed; -1: no gradient is needed.
struct Var {
  Tensor value;
  int slot = -1;
  std::shared_ptr<Rematerialization> rematerialization;  // null: cannot be rematerialized

  bool needs_grad() const { return slot >= 0; }
  const Shape& shape() const { return value.shape(); }
};

/// What a node keeps of a Var for backward: the rematerialization if there is one, else the tensor itself (accounted as
/// saved activation).
class Saved {
 public:
  Saved() = default;
  explicit Saved(const Var& var) : Saved(source(var)) { account(); }
  /// For a rematerialization: keeps what it reads, which is accounted as saved only after a node saves the rematerialized
  /// value.
  static Saved source(const Var& var);
  /// The value; rematerialized if it was not kept, and then kept until every node that saved it has run.
  Tensor get() const;
  /// The value written to `target`, without keeping it.
  void write(View target) const;
  const Shape& shape() const;

 private:
  void account() const;

  std::shared_ptr<Rematerialization> rematerialization_;
  Tensor tensor_;
};

/// How a value can be rematerialized from tensors that are kept anyway. BN+SiLU outputs and concatenations have one. So
/// only the convolutions' outputs are kept, and backward needs one more elementwise pass.
struct Rematerialization {
  Device* device = nullptr;
  Shape shape;
  DType dtype = DType::f32;
  std::vector<Saved> sources;  // what `write` reads, besides what a node keeps anyway
  std::function<void(View, const std::vector<Saved>& sources)> write;  // the value, bit for bit as the forward pass wrote it
  Tensor made;  // the value again, while some node of the backward pass still needs it
};

using Grads = std::vector<Tensor>;  // one for each input, in input order; empty where not wanted

/// One recorded operator: what it saved, and how dy gives the gradients of its inputs. The tape adds them up.
class Node {
 public:
  virtual ~Node() = default;
  virtual const char* name() const = 0;
  /// The weight it applies, a convolution's or a norm's; null: none. For code that reads the tape as the model's graph.
  virtual const Parameter* applied() const { return nullptr; }
  /// The slots of its inputs, in order, and of its output; -1: needs no gradient.
  const std::vector<int>& inputs() const { return inputs_; }
  int output() const { return output_; }
  /// `dy` is the gradient of the output. It may be a channel slice, and may be shared: see may_overwrite.
  virtual Grads backward(Tensor dy) = 0;

 protected:
  bool wanted(std::size_t input) const { return inputs_[input] >= 0; }
  /// True if nothing else reads dy's memory, so that a result may overwrite it.
  static bool may_overwrite(const Tensor& dy) { return dy.packed() && !dy.shares_storage(); }

 private:
  friend class Tape;
  std::vector<int> inputs_;
  int output_ = -1;
  Ledger::Scope scope_ = 0;  // the module that recorded it: what backward allocates is accounted there too
};

/// The record of one forward pass. An operator is on it only if one of its inputs or parameters needs a gradient. So
/// nothing of a frozen prefix is recorded or saved.
class Tape {
 public:
  explicit Tape(bool recompute = true) : recompute_(recompute) {}

  /// A value from outside whose gradient is wanted (tests; a trained input). Read it with `gradient` after backward.
  Var leaf(Tensor value);
  /// Puts the operator on the tape: its output gets a slot.
  Var record(Tensor value, std::unique_ptr<Node> node, const std::vector<const Var*>& inputs);

  /// Runs the nodes backwards from the given gradients; each node is destroyed, with what it saved, as soon as it has run.
  void backward(std::vector<std::pair<int, Tensor>> seeds);
  Tensor gradient(const Var& leaf) const;

  bool recompute() const { return recompute_; }
  std::size_t nodes() const { return nodes_.size(); }
  const std::vector<std::unique_ptr<Node>>& recorded() const { return nodes_; }

 private:
  void accumulate(int slot, Tensor grad);

  bool recompute_;
  int slots_ = 0;
  std::vector<std::unique_ptr<Node>> nodes_;
  std::vector<Tensor> grads_;
  std::vector<bool> is_leaf_;
};

}  // namespace frost
