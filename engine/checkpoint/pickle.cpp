#include "engine/checkpoint/pickle.h"

#include <algorithm>
#include <array>

#include "engine/base/utf8.h"
#include "engine/checkpoint/endian.h"
#include "engine/checkpoint/pickle_opcodes.h"
#include "engine/checkpoint/pickle_values.h"
#include "kernels/error.h"

namespace frost::pickle {
namespace {

constexpr std::size_t kMaxPickle = std::size_t{256} << 20, kMaxText = std::size_t{64} << 20, kMaxLine = 1024;
constexpr std::size_t kMaxMemo = std::size_t{1} << 24, kMaxNesting = 1000;

class Machine {
 public:
  Machine(std::span<const std::byte> bytes, std::shared_ptr<Budget> budget)
      : bytes_(bytes), budget_(std::move(budget)), values_(budget_) {
    none_ = values_.make({.kind = Kind::none});
    false_ = values_.make({.kind = Kind::boolean});
    true_ = values_.make({.kind = Kind::boolean, .integer = 1});
    for (std::int64_t i = 0; i < 256; ++i) values_.make({.kind = Kind::integer, .integer = i});
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
    if (used)
      *used = position_;
    else
      FROST_CHECK(position_ == bytes_.size(), bytes_.size() - position_, " bytes follow the pickle's end");
    return values_.finish(stack_.back());
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

  // ---- the stack
  void push(Ref ref) {
    FROST_CHECK(stack_.size() < kMaxItems, "the stack is too deep");
    stack_.push_back(ref);
  }
  void push(Value value) { push(values_.make(std::move(value))); }
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
  void memoize(std::size_t index) {
    FROST_CHECK(index <= kMaxMemo, "memo index ", index, " is too large");
    const Ref value = top();
    if (index >= memo_.size()) {
      budget_->spend((index + 1 - memo_.size()) * sizeof(Ref), "the memo");
      memo_.resize(index + 1, kNothing);
    }
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
        values_.append(top(), Kind::list, {&item, 1});
        break;
      }
      case kAppends: {
        const auto items = pop_mark();
        values_.append(top(), Kind::list, items);
        break;
      }
      case kAddItems: {
        const auto items = pop_mark();
        values_.append(top(), Kind::set, items);
        break;
      }
      case kSetItem: {
        const Ref value = pop(), key = pop();
        values_.set_items(top(), std::array{key, value});
        break;
      }
      case kSetItems: {
        const auto items = pop_mark();
        values_.set_items(top(), items);
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
        FROST_CHECK(values_.is(name, Kind::text) && values_.is(module, Kind::text), "a global's name is not text");
        push_symbol(values_[module].text, values_[name].text);
        break;
      }
      case kNewObj: {
        const Ref arguments = pop(), type = pop();
        FROST_CHECK(values_.is(arguments, Kind::tuple) && values_.is(type, Kind::symbol), "NEWOBJ of a ",
                    name_of(values_[type].kind));
        push({.kind = Kind::object, .head = type});
        break;
      }
      case kReduce: {
        const Ref arguments = pop(), callable = pop();
        FROST_CHECK(values_.is(arguments, Kind::tuple), "REDUCE with a ", name_of(values_[arguments].kind), " as arguments");
        push(values_.call(callable, arguments));
        break;
      }
      case kBuild: {
        const Ref state = pop();
        values_.build(top(), state);
        break;
      }
      case kBinPersId:
        push(values_.persistent(pop()));
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

  std::span<const std::byte> bytes_;
  std::shared_ptr<Budget> budget_;
  std::size_t position_ = 0, start_ = 0;
  Values values_;
  std::vector<Ref> stack_, memo_;
  std::vector<std::size_t> marks_;
  std::size_t memoized_ = 0;
  Ref none_ = 0, false_ = 0, true_ = 0, small_ = 0;
};

}  // namespace

Document parse(std::span<const std::byte> bytes, std::size_t* used, std::shared_ptr<Budget> budget) {
  if (!budget) budget = std::make_shared<Budget>(bytes.size());
  return Machine(bytes, std::move(budget)).run(used);
}

}  // namespace frost::pickle
