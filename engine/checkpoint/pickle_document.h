#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/checkpoint/budget.h"

/// What a pickle holds, without anything having been executed. See docs/spec/checkpoint.md sections 2 and 7.
namespace frost::pickle {

/// Values are in one array and refer to each other by index, so shared objects and cycles cost nothing.
using Ref = std::uint32_t;
inline constexpr Ref kNothing = 0xFFFFFFFF;

enum class Kind : std::uint8_t {
  none,
  boolean,
  integer,
  big_integer,
  real,
  text,
  bytes,
  list,
  tuple,
  set,      // items
  dict,     // items: key, value, key, value ...; also OrderedDict
  symbol,   // text: "module.name"; nothing is ever looked up
  storage,  // integer: index into storages()
  tensor,   // integer: index into tensors()
  object,   // head: class symbol, items: attributes as in a dict
  call,     // head: symbol of a callable that was NOT called, items: its arguments, state: what BUILD brought
};
const char* name_of(Kind kind);

struct Value {
  Kind kind = Kind::none;
  Ref head = kNothing, state = kNothing;
  std::int64_t integer = 0;
  double real = 0;
  std::string text{};
  std::vector<Ref> items{};
};

enum class ElementType : std::uint8_t { f64, f32, f16, bf16, i64, i32, i16, i8, u8, boolean, untyped };
std::size_t size_of(ElementType type);

/// `count` elements beginning at element `first` of the stored data `key`, which has `stored` elements.
struct Storage {
  std::string key;
  ElementType type = ElementType::f32;
  std::int64_t stored = 0, first = 0, count = 0;
};

/// Element (i0, i1, ...) is storage[offset + sum ik * stride_k]; checked to lie inside the storage.
struct Tensor {
  std::size_t storage = 0;
  ElementType type = ElementType::f32;
  std::int64_t offset = 0;
  std::vector<std::int64_t> size, stride;
  std::int64_t elements() const;
};

/// A parsed pickle: the arena and its root. Lookups count against the file's budget, so code that looks up the same value
/// without end gets an Error instead of hanging.
class Document {
 public:
  using Pairs = std::vector<std::pair<Ref, Ref>>;

  Ref root() const { return root_; }
  const Value& operator[](Ref ref) const { return values_[ref]; }
  const std::vector<Storage>& storages() const { return storages_; }
  const std::vector<Tensor>& tensors() const { return tensors_; }
  const Tensor& tensor(Ref ref) const { return tensors_[static_cast<std::size_t>(values_[ref].integer)]; }

  bool is(Ref ref, Kind kind) const { return ref != kNothing && values_[ref].kind == kind; }
  /// The value of a text key of a dict or attribute of an object; kNothing where there is none (or `of` is neither).
  Ref get(Ref of, std::string_view key) const;
  /// get() along a dotted path: find(root, "model._modules.model").
  Ref find(Ref from, std::string_view dotted) const;
  /// Key and value of a dict or object in order; of equal keys the last value counts, as in Python.
  Pairs entries(Ref dict) const;
  /// "module.name" of a symbol, of an object's class or of a call's callable; "" for other values.
  std::string_view symbol(Ref ref) const;
  /// Bool, int, float or a numpy number as a double.
  std::optional<double> number(Ref ref) const;
  /// A number, or a list, tuple or numpy array of numbers.
  std::optional<std::vector<double>> numbers(Ref ref) const;
  /// Pays for work on these values from the file's budget.
  void spend(std::uint64_t bytes) const { budget_->spend(bytes, "walking through the pickle's values"); }

 private:
  friend class Values;
  std::shared_ptr<Budget> budget_;
  std::vector<Value> values_;
  std::vector<Storage> storages_;
  std::vector<Tensor> tensors_;
  Ref root_ = kNothing;
};

}  // namespace frost::pickle
