#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/autograd/ops.h"

namespace frost {

/// A tensor that belongs to a model's state but is not trained: running statistics, anchors.
struct Buffer {
  std::string name;
  std::vector<std::int64_t> torch_shape;
  Tensor value;  // f32
  std::uint64_t version = new_version();
  void touch() { version = new_version(); }
};
/// An integer of the state (num_batches_tracked); averages do not touch it.
struct Counter {
  std::string name;
  std::int64_t value = 0;
};

/// A node of the model's tree: own parameters, own buffers, then children, in construction order, which is the order of
/// PyTorch's state dict. Names are local; `visit` joins them with dots.
class Module {
 public:
  Module() = default;
  virtual ~Module() = default;
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;

  /// One input, one output; blocks with several inputs override `forward_many`. `output` is where the caller wants the
  /// result. A module may ignore it (Concatenation then copies).
  virtual Var forward(Context& context, const Var& x, const Output& output = {});
  virtual Var forward_many(Context& context, const std::vector<Var>& inputs);
  /// The name of the class in its place in a PyTorch checkpoint, "Conv2d"; "": any.
  virtual std::string torch_class() const { return ""; }

  struct Visitor {
    std::function<void(Parameter&)> parameter;
    std::function<void(Buffer&)> buffer;
    std::function<void(Counter&)> counter;
  };
  /// Visits the tree in state-dict order.
  void visit(const Visitor& visitor);
  /// Visits the modules: name ("" is this one), module; parents before children.
  void walk(const std::function<void(const std::string&, Module&)>& f, const std::string& prefix = "");
  /// Writes the full dotted names into parameters, buffers and scopes, below `prefix`.
  void name_all(const std::string& prefix);

  std::vector<Parameter*> parameters();      // of the whole tree
  std::vector<Parameter*> own_parameters();  // of this module alone
  std::vector<Buffer*> buffers();
  const std::string& name() const { return name_; }

 protected:
  Parameter& add_parameter(Device& device, const std::string& name, Shape shape, std::vector<std::int64_t> torch_shape);
  Buffer& add_buffer(Device& device, const std::string& name, Shape shape, std::vector<std::int64_t> torch_shape,
                     float fill);
  Counter& add_counter(const std::string& name);
  template <class M>
  M& add_child(const std::string& name, std::unique_ptr<M> module) {
    M& reference = *module;
    children_.emplace_back(name, std::move(module));
    return reference;
  }
  /// Removes a child from the tree, so it is no longer part of the state.
  std::unique_ptr<Module> take_child(const std::string& name);
  template <class M>
  M* add_optional_child(const std::string& name, std::unique_ptr<M> module) {  // null: no child
    return module ? &add_child(name, std::move(module)) : nullptr;
  }

 private:
  std::string name_;  // dotted, full
  std::vector<std::pair<std::string, std::unique_ptr<Parameter>>> parameters_;
  std::vector<std::pair<std::string, std::unique_ptr<Buffer>>> buffers_;
  std::vector<std::pair<std::string, std::unique_ptr<Counter>>> counters_;
  std::vector<std::pair<std::string, std::unique_ptr<Module>>> children_;
};

}  // namespace frost
