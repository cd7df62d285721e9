#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "models/graph/blocks.h"
#include "models/graph/model_spec.h"

namespace frost {

/// The items of a list without its brackets, "3, 1", as YAML's flow style reads it; nothing where that is no list, or longer
/// than 1000 bytes.
std::optional<YAML::Node> parse_list(const std::string& items);

/// A call's arguments by place, "3, padding=1" with the names {kernel_size, stride, padding}: those that are left out are
/// undefined nodes. Nothing where that is no list, or a name is unknown, given twice, or before one without.
std::optional<std::vector<YAML::Node>> parse_call(const std::string& items, const std::vector<std::string>& names);

/// The arguments of one row of a model YAML, read with defaults. Whatever is not what the module takes is an Error that
/// names the file, the row and the argument; so are arguments after the last one that the module has.
class RowArgs {
 public:
  /// `names`: what the module's arguments are called, in the row's order.
  RowArgs(const ModelSpec& spec, const LayerSpec& layer, std::vector<std::string> names);
  /// Of a module that is itself an argument; `where` says which.
  RowArgs(std::string where, const ModelSpec& spec, const LayerSpec& layer, std::vector<std::string> names);

  const ModelSpec& spec() const { return spec_; }
  std::size_t size() const { return nodes_.size(); }
  /// "yolo.yaml: layer 3 (Conv)"
  const std::string& where() const { return where_; }
  /// "yolo.yaml: layer 3 (Conv): argument 6 (dilation)"
  std::string at(std::size_t i) const;
  /// Says what is there and what should be.
  [[noreturn]] void refuse(std::size_t i, const std::string& expected) const;

  bool present(std::size_t i) const { return i < nodes_.size() && nodes_[i].IsDefined(); }
  bool none(std::size_t i) const;  // an explicit None
  bool whole_number(std::size_t i) const { return present(i) && as_whole(nodes_[i]).has_value(); }
  bool text_is(std::size_t i, const char* text) const;
  bool list(std::size_t i) const { return present(i) && nodes_[i].IsSequence(); }

  /// A whole number; `nc`, `na` and `no` are known, as in YOLOv5.
  std::int64_t whole(std::size_t i, std::int64_t least, std::int64_t most) const;  // required
  int whole(std::size_t i, int otherwise, int least, int most = kLargest) const;
  /// One number for both sides, or a list (rows, columns).
  Pair pair(std::size_t i, Pair otherwise, int least, int most = kLargest) const;
  /// As pair, for modules that have one number for both sides. Nothing as `otherwise`: required.
  int square(std::size_t i, std::optional<int> otherwise, int least, int most = kLargest) const;
  /// Padding: None or nothing means half the kernel.
  std::optional<Pair> padding(std::size_t i) const;
  std::vector<int> whole_list(std::size_t i, const std::vector<int>& otherwise, int least, int most = kLargest) const;
  double expansion(std::size_t i, double otherwise) const;
  float real(std::size_t i, float otherwise) const;
  bool flag(std::size_t i, bool otherwise) const;
  std::string text(std::size_t i, const std::string& otherwise) const;
  /// Nothing or True: the graph's own, which is no value. False or None: the identity. Else the text of an activation.
  std::optional<Activation> activation(std::size_t i) const;
  /// Refuses an argument that has another value than the only one that frost computes.
  void only(std::size_t i, bool fits, const char* value) const;

  /// The arguments as YOLOv5 prints them, from `first` on, after `head`.
  std::string printed(std::vector<std::string> head, std::size_t first) const;

  static constexpr int kLargest = 4096;  // kernel, stride, padding, dilation

 private:
  std::optional<std::int64_t> as_whole(const YAML::Node& node) const;
  std::optional<std::vector<int>> as_wholes(const YAML::Node& node, int least, int most) const;

  const ModelSpec& spec_;
  std::vector<std::string> names_;
  std::string where_;
  std::vector<YAML::Node> nodes_;
};

}  // namespace frost
