#include "engine/nn/module.h"

#include <algorithm>

namespace frost {

Var Module::forward(Context&, const Var&, const Output&) { fail(name_, ": this module takes several inputs"); }

Var Module::forward_many(Context& context, const std::vector<Var>& inputs) {
  FROST_CHECK(inputs.size() == 1, name_, ": takes one input, the graph gives ", inputs.size());
  return forward(context, inputs[0]);
}

void Module::visit(const Visitor& visitor) {
  if (visitor.parameter)
    for (auto& [name, parameter] : parameters_) visitor.parameter(*parameter);
  if (visitor.buffer)
    for (auto& [name, buffer] : buffers_) visitor.buffer(*buffer);
  if (visitor.counter)
    for (auto& [name, counter] : counters_) visitor.counter(*counter);
  for (auto& [name, child] : children_) child->visit(visitor);
}

void Module::walk(const std::function<void(const std::string&, Module&)>& f, const std::string& prefix) {
  f(prefix, *this);
  for (auto& [name, child] : children_) child->walk(f, prefix.empty() ? name : prefix + "." + name);
}

void Module::name_all(const std::string& prefix) {
  name_ = prefix;
  const auto joined = [&](const std::string& local) { return prefix.empty() ? local : prefix + "." + local; };
  for (auto& [name, parameter] : parameters_) parameter->name = joined(name);
  for (auto& [name, buffer] : buffers_) buffer->name = joined(name);
  for (auto& [name, counter] : counters_) counter->name = joined(name);
  for (auto& [name, child] : children_) child->name_all(joined(name));
}

std::vector<Parameter*> Module::parameters() {
  std::vector<Parameter*> all;
  visit({.parameter = [&](Parameter& p) { all.push_back(&p); }, .buffer = {}, .counter = {}});
  return all;
}

std::vector<Parameter*> Module::own_parameters() {
  std::vector<Parameter*> own;
  for (auto& [name, parameter] : parameters_) own.push_back(parameter.get());
  return own;
}

std::vector<Buffer*> Module::buffers() {
  std::vector<Buffer*> all;
  visit({.parameter = {}, .buffer = [&](Buffer& b) { all.push_back(&b); }, .counter = {}});
  return all;
}

Parameter& Module::add_parameter(Device& device, const std::string& name, Shape shape,
                                 std::vector<std::int64_t> torch_shape) {
  auto parameter = std::make_unique<Parameter>();
  parameter->name = name;
  parameter->torch_shape = std::move(torch_shape);
  parameter->value = Tensor::zeros(device, shape, DType::f32, Role::parameter);
  parameters_.emplace_back(name, std::move(parameter));
  return *parameters_.back().second;
}

Buffer& Module::add_buffer(Device& device, const std::string& name, Shape shape, std::vector<std::int64_t> torch_shape,
                           float fill) {
  auto buffer = std::make_unique<Buffer>();
  buffer->name = name;
  buffer->torch_shape = std::move(torch_shape);
  buffer->value = Tensor(device, shape, DType::f32, Role::buffer);
  buffer->value.assign(std::vector<float>(static_cast<std::size_t>(shape.elements()), fill));
  buffers_.emplace_back(name, std::move(buffer));
  return *buffers_.back().second;
}

Counter& Module::add_counter(const std::string& name) {
  counters_.emplace_back(name, std::make_unique<Counter>(Counter{name, 0}));
  return *counters_.back().second;
}

std::unique_ptr<Module> Module::take_child(const std::string& name) {
  const auto it = std::find_if(children_.begin(), children_.end(), [&](const auto& child) { return child.first == name; });
  FROST_CHECK(it != children_.end(), name_, ": has no ", name);
  std::unique_ptr<Module> child = std::move(it->second);
  children_.erase(it);
  return child;
}

}  // namespace frost
