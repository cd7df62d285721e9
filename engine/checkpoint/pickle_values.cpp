#include "engine/checkpoint/pickle_values.h"

#include <algorithm>
#include <array>

#include "engine/base/utf8.h"
#include "kernels/error.h"

namespace frost::pickle {
namespace {

constexpr std::size_t kMaxValues = std::size_t{1} << 22, kMaxDimensions = 8;

struct StorageType {
  std::string_view symbol;
  ElementType type;
};
constexpr std::array kStorageTypes = {
    StorageType{"torch.DoubleStorage", ElementType::f64},
    StorageType{"torch.FloatStorage", ElementType::f32},
    StorageType{"torch.HalfStorage", ElementType::f16},
    StorageType{"torch.BFloat16Storage", ElementType::bf16},
    StorageType{"torch.LongStorage", ElementType::i64},
    StorageType{"torch.IntStorage", ElementType::i32},
    StorageType{"torch.ShortStorage", ElementType::i16},
    StorageType{"torch.CharStorage", ElementType::i8},
    StorageType{"torch.ByteStorage", ElementType::u8},
    StorageType{"torch.BoolStorage", ElementType::boolean},
    StorageType{"torch.storage.UntypedStorage", ElementType::untyped},
};
/// The dtypes of _rebuild_tensor_v3, which names them apart from the storage.
constexpr std::array kDtypes = {
    StorageType{"torch.float64", ElementType::f64}, StorageType{"torch.float32", ElementType::f32},
    StorageType{"torch.float16", ElementType::f16}, StorageType{"torch.bfloat16", ElementType::bf16},
    StorageType{"torch.int64", ElementType::i64},   StorageType{"torch.int32", ElementType::i32},
    StorageType{"torch.int16", ElementType::i16},   StorageType{"torch.int8", ElementType::i8},
    StorageType{"torch.uint8", ElementType::u8},    StorageType{"torch.bool", ElementType::boolean},
};

}  // namespace

Ref Values::make(Value value) {
  FROST_CHECK(document_.values_.size() < kMaxValues, "more than ", kMaxValues, " values");
  spend(sizeof(Value) + value.text.size() + value.items.size() * sizeof(Ref));
  document_.values_.push_back(std::move(value));
  return static_cast<Ref>(document_.values_.size() - 1);
}

void Values::append(Ref to, Kind kind, std::span<const Ref> items) {
  FROST_CHECK(is(to, kind), "cannot append to a ", name_of(at(to).kind));
  auto& list = at(to).items;
  FROST_CHECK(list.size() + items.size() <= kMaxItems, "a list of more than ", kMaxItems, " items");
  spend(items.size() * sizeof(Ref));
  list.insert(list.end(), items.begin(), items.end());
}
void Values::set_items(Ref to, std::span<const Ref> items) {
  FROST_CHECK(is(to, Kind::dict), "cannot set items of a ", name_of(at(to).kind));
  add_pairs(to, items);
}
void Values::add_pairs(Ref to, std::span<const Ref> items) {
  FROST_CHECK(items.size() % 2 == 0, "a key without a value");
  for (std::size_t i = 0; i < items.size(); i += 2) {
    const Kind key = at(items[i]).kind;
    FROST_CHECK(key == Kind::text || key == Kind::integer || key == Kind::boolean, "a ", name_of(key), " as a key");
  }
  auto& pairs = at(to).items;
  FROST_CHECK(pairs.size() + items.size() <= kMaxItems, "a map of more than ", kMaxItems / 2, " entries");
  spend(items.size() * sizeof(Ref));
  pairs.insert(pairs.end(), items.begin(), items.end());
}

Ref Values::call(Ref callable, Ref arguments) {
  spend(at(arguments).items.size() * sizeof(Ref));  // one tuple can be the arguments of many calls
  const std::vector<Ref> items = at(arguments).items;
  if (is(callable, Kind::symbol)) {
    const std::string& name = at(callable).text;
    if (name == "collections.OrderedDict") return ordered_dict(items);
    if (name == "__builtin__.set" || name == "builtins.set") return set_of(items);
    if (name == "torch._utils._rebuild_tensor") return rebuild_tensor(items, 4, kNothing);
    if (name == "torch._utils._rebuild_tensor_v2") return rebuild_tensor(items, 6, kNothing);
    if (name == "torch._utils._rebuild_tensor_v3") return rebuild_tensor(items, 7, items.size() > 6 ? items[6] : kNothing);
    if (name == "torch._utils._rebuild_parameter" || name == "torch._utils._rebuild_parameter_with_state" ||
        name == "torch.nn.parameter.Parameter") {
      FROST_CHECK(!items.empty() && is(items[0], Kind::tensor), name, " without a tensor");
      return items[0];
    }
    if (name == "_codecs.encode") return encode(items);
    if (name == "__builtin__.bytes" || name == "builtins.bytes") {
      if (items.empty()) return make({.kind = Kind::bytes});
    }
  }
  return make({.kind = Kind::call, .head = callable, .items = items});
}

Ref Values::ordered_dict(const std::vector<Ref>& items) {
  FROST_CHECK(items.size() <= 1, "OrderedDict with ", items.size(), " arguments");
  const Ref dict = make({.kind = Kind::dict});
  if (items.empty()) return dict;
  FROST_CHECK(is(items[0], Kind::list), "OrderedDict of a ", name_of(at(items[0]).kind));
  for (const Ref pair : std::vector(at(items[0]).items)) {
    const Kind kind = at(pair).kind;
    FROST_CHECK((kind == Kind::list || kind == Kind::tuple) && at(pair).items.size() == 2,
                "OrderedDict with an item that is no pair");
    set_items(dict, std::vector(at(pair).items));
  }
  return dict;
}

Ref Values::set_of(const std::vector<Ref>& items) {
  FROST_CHECK(items.size() <= 1, "set with ", items.size(), " arguments");
  if (items.empty()) return make({.kind = Kind::set});
  FROST_CHECK(is(items[0], Kind::list), "set of a ", name_of(at(items[0]).kind));
  std::vector<Ref> copy = at(items[0]).items;
  return make({.kind = Kind::set, .items = std::move(copy)});
}

/// Protocol 2 has no bytes: they travel as text whose characters are the bytes.
Ref Values::encode(const std::vector<Ref>& items) {
  FROST_CHECK(items.size() == 2 && is(items[0], Kind::text) && is(items[1], Kind::text) && at(items[1]).text == "latin1",
              "_codecs.encode with other arguments than (text, latin1)");
  std::string bytes;
  std::uint32_t code = 0;
  for (std::string_view rest = at(items[0]).text; !rest.empty();) {
    rest.remove_prefix(utf8_character(rest, code));
    FROST_CHECK(code < 256, "a byte text with character ", code);
    bytes += static_cast<char>(code);
  }
  return make({.kind = Kind::bytes, .text = std::move(bytes)});
}

std::int64_t Values::natural(Ref ref, const char* what) const {
  FROST_CHECK(is(ref, Kind::integer) && document_[ref].integer >= 0, what, " is not a non-negative integer");
  return document_[ref].integer;
}
std::vector<std::int64_t> Values::naturals(Ref ref, const char* what) const {
  // torch.Size travels as a call with one tuple
  if (is(ref, Kind::call) && document_.symbol(ref) == "torch.Size" && document_[ref].items.size() == 1)
    ref = document_[ref].items[0];
  FROST_CHECK(is(ref, Kind::tuple), what, " is not a tuple");
  FROST_CHECK(document_[ref].items.size() <= kMaxDimensions, "a tensor of ", document_[ref].items.size(), " dimensions");
  std::vector<std::int64_t> values;
  for (const Ref item : document_[ref].items) values.push_back(natural(item, what));
  return values;
}

Ref Values::rebuild_tensor(const std::vector<Ref>& items, std::size_t needed, Ref dtype) {
  FROST_CHECK(items.size() >= needed && is(items[0], Kind::storage), "a tensor without a storage");
  Tensor t;
  t.storage = static_cast<std::size_t>(at(items[0]).integer);
  const Storage& storage = document_.storages_[t.storage];
  t.type = storage.type;
  std::int64_t available = storage.count;
  if (dtype != kNothing) {
    const auto known =
        std::find_if(kDtypes.begin(), kDtypes.end(), [&](const auto& d) { return d.symbol == document_.symbol(dtype); });
    FROST_CHECK(known != kDtypes.end(), "a tensor of unsupported type ", document_.symbol(dtype));
    FROST_CHECK(storage.type == ElementType::untyped || storage.type == known->type,
                "a tensor's type differs from its storage's");
    if (storage.type == ElementType::untyped) available /= static_cast<std::int64_t>(size_of(known->type));
    t.type = known->type;
  }
  FROST_CHECK(t.type != ElementType::untyped, "a tensor without a type");
  t.offset = natural(items[1], "a tensor's offset");
  t.size = naturals(items[2], "a tensor's size");
  t.stride = naturals(items[3], "a tensor's stride");
  FROST_CHECK(t.size.size() == t.stride.size(), "a tensor of ", t.size.size(), " dimensions with ", t.stride.size(),
              " strides");
  std::int64_t last = t.offset, count = 1;
  bool overflow = false, empty = false;
  for (std::size_t i = 0; i < t.size.size(); ++i) {
    if (t.size[i] == 0) empty = true;
    std::int64_t step = 0;
    overflow |= __builtin_mul_overflow(std::max<std::int64_t>(t.size[i] - 1, 0), t.stride[i], &step);
    overflow |= __builtin_add_overflow(last, step, &last);
    overflow |= __builtin_mul_overflow(count, std::max<std::int64_t>(t.size[i], 1), &count);
  }
  overflow |= __builtin_mul_overflow(count, static_cast<std::int64_t>(size_of(t.type)), &count);
  FROST_CHECK(!overflow, "a tensor has too many elements");
  FROST_CHECK(empty || last < available, "a tensor reaches element ", last, " of a storage of ", available);
  spend(sizeof(Tensor) + (t.size.size() + t.stride.size()) * sizeof(std::int64_t));
  document_.tensors_.push_back(std::move(t));
  return make({.kind = Kind::tensor, .integer = static_cast<std::int64_t>(document_.tensors_.size() - 1)});
}

Ref Values::persistent(Ref id) {
  FROST_CHECK(is(id, Kind::tuple) && !at(id).items.empty() && is(at(id).items[0], Kind::text),
              "a persistent id that is no tuple");
  const std::vector<Ref> items = at(id).items;
  const std::string& tag = at(items[0]).text;
  if (tag == "module" && items.size() == 4 && is(items[1], Kind::symbol)) return items[1];
  FROST_CHECK(
      tag == "storage" && (items.size() == 5 || items.size() == 6) && is(items[1], Kind::symbol) && is(items[2], Kind::text),
      "an unknown kind of persistent id");
  const auto type =
      std::find_if(kStorageTypes.begin(), kStorageTypes.end(), [&](const auto& t) { return t.symbol == at(items[1]).text; });
  FROST_CHECK(type != kStorageTypes.end(), "unsupported storage type ", at(items[1]).text);
  Storage storage{at(items[2]).text, type->type, natural(items[4], "a storage's element count"), 0, 0};
  std::int64_t bytes = 0;
  FROST_CHECK(!__builtin_mul_overflow(storage.stored, static_cast<std::int64_t>(size_of(storage.type)), &bytes),
              "a storage is too large");
  storage.count = storage.stored;
  if (items.size() == 6 && !is(items[5], Kind::none)) {
    FROST_CHECK(is(items[5], Kind::tuple) && at(items[5]).items.size() == 3, "a storage's view is not (key, offset, size)");
    storage.first = natural(at(items[5]).items[1], "a view's offset");
    storage.count = natural(at(items[5]).items[2], "a view's size");
    FROST_CHECK(storage.first <= storage.stored && storage.count <= storage.stored - storage.first,
                "a view outside its storage");
  }
  spend(sizeof(Storage) + storage.key.size());
  const auto [known, fresh] = first_use_.emplace(storage.key, document_.storages_.size());
  if (!fresh) {
    const Storage& other = document_.storages_[known->second];
    FROST_CHECK(other.type == storage.type && other.stored == storage.stored, "storage ", storage.key,
                " has two types or sizes");
  }
  document_.storages_.push_back(std::move(storage));
  return make({.kind = Kind::storage, .integer = static_cast<std::int64_t>(document_.storages_.size() - 1)});
}

void Values::build(Ref target, Ref state) {
  switch (at(target).kind) {
    case Kind::object: {
      if (is(state, Kind::tuple) && at(state).items.size() == 2 && is(at(state).items[0], Kind::dict))
        state = at(state).items[0];
      FROST_CHECK(is(state, Kind::dict), "BUILD of an object from a ", name_of(at(state).kind));
      add_pairs(target, std::vector(at(state).items));
      break;
    }
    case Kind::dict:
      break;  // an OrderedDict's attributes: `_metadata` of state dicts
    case Kind::call:
      at(target).state = state;
      break;
    default:
      fail("BUILD of a ", name_of(at(target).kind));
  }
}

Document Values::finish(Ref root) {
  document_.root_ = root;
  return std::move(document_);
}

}  // namespace frost::pickle
