#include "engine/checkpoint/pickle.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <unordered_map>
#include <unordered_set>

#include "engine/base/utf8.h"
#include "engine/checkpoint/little.h"
#include "engine/checkpoint/pickle_opcodes.h"
#include "kernels/error.h"

namespace frost::pickle {
namespace {

constexpr std::size_t kMaxPickle = std::size_t{256} << 20, kMaxText = std::size_t{64} << 20, kMaxLine = 1024;
constexpr std::size_t kMaxItems = std::size_t{1} << 24, kMaxMemo = std::size_t{1} << 24, kMaxValues = std::size_t{1} << 22;
constexpr std::size_t kMaxNesting = 1000, kMaxDimensions = 8;

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

class Machine {
 public:
  explicit Machine(std::span<const std::byte> bytes) : bytes_(bytes) {
    none_ = make({.kind = Kind::none});
    false_ = make({.kind = Kind::boolean});
    true_ = make({.kind = Kind::boolean, .integer = 1});
    for (std::int64_t i = 0; i < 256; ++i) make({.kind = Kind::integer, .integer = i});
    small_ = true_ + 1;
  }

  Document run(std::size_t* used) try {
    FROST_CHECK(bytes_.size() <= kMaxPickle, "the pickle has ", bytes_.size(), " bytes, more than ", kMaxPickle);
    FROST_CHECK(!bytes_.empty() && byte() == kProto, "not a pickle (it does not begin with 0x80)");
    const auto protocol = byte();
    FROST_CHECK(protocol <= 5, "protocol ", int{protocol}, " is not known");
    while (step(byte())) {
    }
    FROST_CHECK(stack_.size() == 1 && marks_.empty(), "STOP leaves ", stack_.size(), " values on the stack, not one");
    document_.root_ = stack_.back();
    if (used)
      *used = position_;
    else
      FROST_CHECK(position_ == bytes_.size(), bytes_.size() - position_, " bytes follow the pickle's end");
    return std::move(document_);
  } catch (const Error& error) {
    fail("byte ", start_, ": ", error.what());
  }

 private:
  // ---- the bytes
  std::span<const std::byte> take(std::uint64_t count) {
    FROST_CHECK(count <= bytes_.size() - position_, "the pickle is truncated");
    const auto part = bytes_.subspan(position_, static_cast<std::size_t>(count));
    position_ += static_cast<std::size_t>(count);
    return part;
  }
  std::uint8_t byte() { return static_cast<std::uint8_t>(take(1)[0]); }
  template <class T>
  T number() {
    return little<T>(take(sizeof(T)).data());
  }
  std::string_view chars(std::uint64_t count) {
    FROST_CHECK(count <= kMaxText, "a text of ", count, " bytes");
    const auto part = take(count);
    return {reinterpret_cast<const char*>(part.data()), part.size()};
  }
  std::string_view line() {
    const std::string_view rest(reinterpret_cast<const char*>(bytes_.data()) + position_,
                                std::min(bytes_.size() - position_, kMaxLine));
    const auto end = rest.find('\n');
    FROST_CHECK(end != rest.npos, "a global's name without end");
    position_ += end + 1;
    return rest.substr(0, end);
  }
  static std::string text(std::string_view chars) {
    FROST_CHECK(valid_utf8(chars), "a text is not UTF-8");
    return std::string(chars);
  }

  // ---- the arena and the stack
  Ref make(Value value) {
    FROST_CHECK(document_.values_.size() < kMaxValues, "more than ", kMaxValues, " values");
    document_.values_.push_back(std::move(value));
    return static_cast<Ref>(document_.values_.size() - 1);
  }
  Value& at(Ref ref) { return document_.values_[ref]; }
  bool is(Ref ref, Kind kind) const { return document_.is(ref, kind); }
  void push(Ref ref) {
    FROST_CHECK(stack_.size() < kMaxItems, "the stack is too deep");
    stack_.push_back(ref);
  }
  void push(Value value) { push(make(std::move(value))); }
  std::size_t floor() const { return marks_.empty() ? 0 : marks_.back(); }  // values below the last mark are out of reach
  Ref pop() {
    FROST_CHECK(stack_.size() > floor(), "stack underflow");
    const Ref top = stack_.back();
    stack_.pop_back();
    return top;
  }
  Ref top() const {
    FROST_CHECK(stack_.size() > floor(), "stack underflow");
    return stack_.back();
  }
  std::vector<Ref> pop_mark() {
    FROST_CHECK(!marks_.empty(), "no mark on the stack");
    const auto from = stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back());
    std::vector<Ref> items(from, stack_.end());
    stack_.erase(from, stack_.end());
    marks_.pop_back();
    return items;
  }
  void push_tuple(std::size_t count) {
    std::vector<Ref> items(count);
    for (std::size_t i = count; i-- > 0;) items[i] = pop();
    push({.kind = Kind::tuple, .items = std::move(items)});
  }
  void append(Ref to, Kind kind, std::span<const Ref> items) {
    FROST_CHECK(is(to, kind), "cannot append to a ", name_of(at(to).kind));
    auto& list = at(to).items;
    FROST_CHECK(list.size() + items.size() <= kMaxItems, "a list of more than ", kMaxItems, " items");
    list.insert(list.end(), items.begin(), items.end());
  }
  void set_items(Ref to, std::span<const Ref> items) {
    FROST_CHECK(is(to, Kind::dict), "cannot set items of a ", name_of(at(to).kind));
    add_pairs(to, items);
  }
  void add_pairs(Ref to, std::span<const Ref> items) {
    FROST_CHECK(items.size() % 2 == 0, "a key without a value");
    for (std::size_t i = 0; i < items.size(); i += 2) {
      const Kind key = at(items[i]).kind;
      FROST_CHECK(key == Kind::text || key == Kind::integer || key == Kind::boolean, "a ", name_of(key), " as a key");
    }
    auto& pairs = at(to).items;
    FROST_CHECK(pairs.size() + items.size() <= kMaxItems, "a map of more than ", kMaxItems / 2, " entries");
    pairs.insert(pairs.end(), items.begin(), items.end());
  }
  void memoize(std::size_t index) {
    FROST_CHECK(index <= kMaxMemo, "memo index ", index, " is too large");
    const Ref value = top();
    if (index >= memo_.size()) memo_.resize(index + 1, kNothing);
    memoized_ = std::max(memoized_, index + 1);
    memo_[index] = value;
  }
  void recall(std::size_t index) {
    FROST_CHECK(index < memo_.size() && memo_[index] != kNothing, "memo index ", index, " is not set");
    push(memo_[index]);
  }
  void push_symbol(std::string_view module, std::string_view name) {
    FROST_CHECK(module.size() + name.size() <= kMaxLine, "a global's name is too long");
    push({.kind = Kind::symbol, .text = text(module) + "." + text(name)});
  }
  void push_long(std::uint64_t size) {
    const auto part = chars(size);
    if (size > 8) return push({.kind = Kind::big_integer, .text = std::string(part)});
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < size; ++i) value |= std::uint64_t{static_cast<std::uint8_t>(part[i])} << 8 * i;
    if (size > 0 && size < 8 && (static_cast<std::uint8_t>(part.back()) & 0x80)) value |= ~std::uint64_t{0} << 8 * size;
    push_integer(static_cast<std::int64_t>(value));
  }
  void push_integer(std::int64_t value) {
    if (value >= 0 && value < 256)
      push(static_cast<Ref>(small_ + value));
    else
      push({.kind = Kind::integer, .integer = value});
  }
  void push_python2_string(std::string_view chars) {
    push({.kind = valid_utf8(chars) ? Kind::text : Kind::bytes, .text = std::string(chars)});
  }

  // ---- what the opcodes mean; false at STOP
  bool step(std::uint8_t op) {
    start_ = position_ - 1;
    switch (op) {
      case kStop:
        return false;
      case kProto:
        FROST_CHECK(byte() <= 5, "unknown protocol");
        break;
      case kFrame: {
        const auto length = number<std::uint64_t>();
        FROST_CHECK(length <= bytes_.size() - position_, "the pickle is truncated");
        break;
      }
      case kMark:
        FROST_CHECK(marks_.size() < kMaxNesting, "nested more than ", kMaxNesting, " deep");
        marks_.push_back(stack_.size());
        break;
      case kPop:
        if (!marks_.empty() && marks_.back() == stack_.size())
          marks_.pop_back();
        else
          pop();
        break;
      case kPopMark:
        pop_mark();
        break;
      case kDup:
        push(top());
        break;

      case kNone:
        push(none_);
        break;
      case kNewTrue:
        push(true_);
        break;
      case kNewFalse:
        push(false_);
        break;
      case kBinInt1:
        push_integer(byte());
        break;
      case kBinInt2:
        push_integer(number<std::uint16_t>());
        break;
      case kBinInt:
        push_integer(number<std::int32_t>());
        break;
      case kLong1:
        push_long(byte());
        break;
      case kLong4:
        push_long(number<std::uint32_t>());
        break;
      case kBinFloat:
        push({.kind = Kind::real, .real = std::bit_cast<double>(__builtin_bswap64(number<std::uint64_t>()))});
        break;
      case kBinUnicode:
        push({.kind = Kind::text, .text = text(chars(number<std::uint32_t>()))});
        break;
      case kShortBinUnicode:
        push({.kind = Kind::text, .text = text(chars(byte()))});
        break;
      case kBinUnicode8:
        push({.kind = Kind::text, .text = text(chars(number<std::uint64_t>()))});
        break;
      case kBinBytes:
        push({.kind = Kind::bytes, .text = std::string(chars(number<std::uint32_t>()))});
        break;
      case kShortBinBytes:
        push({.kind = Kind::bytes, .text = std::string(chars(byte()))});
        break;
      case kBinBytes8:
        push({.kind = Kind::bytes, .text = std::string(chars(number<std::uint64_t>()))});
        break;
      case kBinString: {
        const auto length = number<std::int32_t>();
        FROST_CHECK(length >= 0, "a text of negative length");
        push_python2_string(chars(static_cast<std::uint32_t>(length)));
        break;
      }
      case kShortBinString:
        push_python2_string(chars(byte()));
        break;

      case kEmptyDict:
        push({.kind = Kind::dict});
        break;
      case kEmptyList:
        push({.kind = Kind::list});
        break;
      case kEmptyTuple:
        push({.kind = Kind::tuple});
        break;
      case kEmptySet:
        push({.kind = Kind::set});
        break;
      case kTuple1:
        push_tuple(1);
        break;
      case kTuple2:
        push_tuple(2);
        break;
      case kTuple3:
        push_tuple(3);
        break;
      case kTuple:
        push_from_mark(Kind::tuple);
        break;
      case kFrozenSet:
        push_from_mark(Kind::set);
        break;
      case kAppend: {
        const Ref item = pop();
        append(top(), Kind::list, {&item, 1});
        break;
      }
      case kAppends: {
        const auto items = pop_mark();
        append(top(), Kind::list, items);
        break;
      }
      case kAddItems: {
        const auto items = pop_mark();
        append(top(), Kind::set, items);
        break;
      }
      case kSetItem: {
        const Ref value = pop(), key = pop();
        set_items(top(), std::array{key, value});
        break;
      }
      case kSetItems: {
        const auto items = pop_mark();
        set_items(top(), items);
        break;
      }

      case kBinPut:
        memoize(byte());
        break;
      case kLongBinPut:
        memoize(number<std::uint32_t>());
        break;
      case kMemoize:
        memoize(memoized_);
        break;
      case kBinGet:
        recall(byte());
        break;
      case kLongBinGet:
        recall(number<std::uint32_t>());
        break;

      case kGlobal: {
        const auto module = line(), name = line();
        push_symbol(module, name);
        break;
      }
      case kStackGlobal: {
        const Ref name = pop(), module = pop();
        FROST_CHECK(is(name, Kind::text) && is(module, Kind::text), "a global's name is not text");
        push_symbol(at(module).text, at(name).text);
        break;
      }
      case kNewObj: {
        const Ref arguments = pop(), type = pop();
        FROST_CHECK(is(arguments, Kind::tuple) && is(type, Kind::symbol), "NEWOBJ of a ", name_of(at(type).kind));
        push({.kind = Kind::object, .head = type});
        break;
      }
      case kReduce: {
        const Ref arguments = pop(), callable = pop();
        FROST_CHECK(is(arguments, Kind::tuple), "REDUCE with a ", name_of(at(arguments).kind), " as arguments");
        push(reduce(callable, arguments));
        break;
      }
      case kBuild: {
        const Ref state = pop();
        build(top(), state);
        break;
      }
      case kBinPersId:
        push(persistent(pop()));
        break;
      default: {
        const char* hex = "0123456789abcdef";
        fail("opcode 0x", hex[op >> 4], hex[op & 15], " is refused");
      }
    }
    return true;
  }

  void push_from_mark(Kind kind) {
    auto items = pop_mark();
    push({.kind = kind, .items = std::move(items)});
  }

  /// Builds the few values that are pure data; anything else becomes an inert record of what the file wanted to call.
  Ref reduce(Ref callable, Ref arguments) {
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

  Ref ordered_dict(const std::vector<Ref>& items) {
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

  Ref set_of(const std::vector<Ref>& items) {
    FROST_CHECK(items.size() <= 1, "set with ", items.size(), " arguments");
    if (items.empty()) return make({.kind = Kind::set});
    FROST_CHECK(is(items[0], Kind::list), "set of a ", name_of(at(items[0]).kind));
    std::vector<Ref> copy = at(items[0]).items;
    return make({.kind = Kind::set, .items = std::move(copy)});
  }

  /// Protocol 2 has no bytes: they travel as text whose characters are the bytes.
  Ref encode(const std::vector<Ref>& items) {
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

  std::int64_t natural(Ref ref, const char* what) {
    FROST_CHECK(is(ref, Kind::integer) && at(ref).integer >= 0, what, " is not a non-negative integer");
    return at(ref).integer;
  }
  std::vector<std::int64_t> naturals(Ref ref, const char* what) {
    // torch.Size travels as a call with one tuple
    if (is(ref, Kind::call) && document_.symbol(ref) == "torch.Size" && at(ref).items.size() == 1) ref = at(ref).items[0];
    FROST_CHECK(is(ref, Kind::tuple), what, " is not a tuple");
    FROST_CHECK(at(ref).items.size() <= kMaxDimensions, "a tensor of ", at(ref).items.size(), " dimensions");
    std::vector<std::int64_t> values;
    for (const Ref item : at(ref).items) values.push_back(natural(item, what));
    return values;
  }

  Ref rebuild_tensor(const std::vector<Ref>& items, std::size_t needed, Ref dtype) {
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
    document_.tensors_.push_back(std::move(t));
    return make({.kind = Kind::tensor, .integer = static_cast<std::int64_t>(document_.tensors_.size() - 1)});
  }

  /// ("storage", type, key, location, count[, view]) or, in the legacy container, ("module", class, file, source).
  Ref persistent(Ref id) {
    FROST_CHECK(is(id, Kind::tuple) && !at(id).items.empty() && is(at(id).items[0], Kind::text),
                "a persistent id that is no tuple");
    const std::vector<Ref> items = at(id).items;
    const std::string& tag = at(items[0]).text;
    if (tag == "module" && items.size() == 4 && is(items[1], Kind::symbol)) return items[1];
    FROST_CHECK(tag == "storage" && (items.size() == 5 || items.size() == 6) && is(items[1], Kind::symbol) &&
                    is(items[2], Kind::text),
                "an unknown kind of persistent id");
    const auto type = std::find_if(kStorageTypes.begin(), kStorageTypes.end(),
                                   [&](const auto& t) { return t.symbol == at(items[1]).text; });
    FROST_CHECK(type != kStorageTypes.end(), "unsupported storage type ", at(items[1]).text);
    Storage storage{at(items[2]).text, type->type, natural(items[4], "a storage's element count"), 0, 0};
    std::int64_t bytes = 0;
    FROST_CHECK(!__builtin_mul_overflow(storage.stored, static_cast<std::int64_t>(size_of(storage.type)), &bytes),
                "a storage is too large");
    storage.count = storage.stored;
    if (items.size() == 6 && !is(items[5], Kind::none)) {
      FROST_CHECK(is(items[5], Kind::tuple) && at(items[5]).items.size() == 3,
                  "a storage's view is not (key, offset, size)");
      storage.first = natural(at(items[5]).items[1], "a view's offset");
      storage.count = natural(at(items[5]).items[2], "a view's size");
      FROST_CHECK(storage.first <= storage.stored && storage.count <= storage.stored - storage.first,
                  "a view outside its storage");
    }
    const auto [known, fresh] = first_use_.emplace(storage.key, document_.storages_.size());
    if (!fresh) {
      const Storage& other = document_.storages_[known->second];
      FROST_CHECK(other.type == storage.type && other.stored == storage.stored, "storage ", storage.key,
                  " has two types or sizes");
    }
    document_.storages_.push_back(std::move(storage));
    return make({.kind = Kind::storage, .integer = static_cast<std::int64_t>(document_.storages_.size() - 1)});
  }

  void build(Ref target, Ref state) {
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

  std::span<const std::byte> bytes_;
  std::size_t position_ = 0, start_ = 0;
  Document document_;
  std::vector<Ref> stack_, memo_;
  std::vector<std::size_t> marks_;
  std::size_t memoized_ = 0;
  std::unordered_map<std::string, std::size_t> first_use_;
  Ref none_ = 0, false_ = 0, true_ = 0, small_ = 0;
};

Document parse(std::span<const std::byte> bytes, std::size_t* used) { return Machine(bytes).run(used); }

}  // namespace frost::pickle
