#pragma once
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "engine/checkpoint/pickle_document.h"

namespace frost::pickle {

inline constexpr std::size_t kMaxItems = std::size_t{1} << 24;  // of a list, a map, the stack

/// The values that a pickle makes, and what its calls mean: a few build pure data (tensors, ordered dicts, sets, bytes),
/// all others become records of the call and are never executed. Throws Error for what docs/spec/checkpoint.md section 7
/// refuses.
class Values {
 public:
  explicit Values(std::shared_ptr<Budget> budget) { document_.budget_ = std::move(budget); }
  Ref make(Value value);
  const Value& operator[](Ref ref) const { return document_[ref]; }
  bool is(Ref ref, Kind kind) const { return document_.is(ref, kind); }

  void append(Ref to, Kind kind, std::span<const Ref> items);
  void set_items(Ref to, std::span<const Ref> items);  // key, value, key, value ...
  Ref call(Ref callable, Ref arguments);
  /// ("storage", type, key, location, count[, view]) or, in the legacy container, ("module", class, file, source).
  Ref persistent(Ref id);
  void build(Ref target, Ref state);

  Document finish(Ref root);

 private:
  Value& at(Ref ref) { return document_.values_[ref]; }
  void spend(std::uint64_t bytes) const { document_.budget_->spend(bytes, "the pickle's values"); }
  void add_pairs(Ref to, std::span<const Ref> items);
  Ref ordered_dict(const std::vector<Ref>& items);
  Ref set_of(const std::vector<Ref>& items);
  Ref encode(const std::vector<Ref>& items);
  std::int64_t natural(Ref ref, const char* what) const;
  std::vector<std::int64_t> naturals(Ref ref, const char* what) const;
  Ref rebuild_tensor(const std::vector<Ref>& items, std::size_t needed, Ref dtype);

  Document document_;
  std::unordered_map<std::string, std::size_t> first_use_;  // of a storage's key
};

}  // namespace frost::pickle
