#include "engine/checkpoint/pickle_document.h"

#include <algorithm>
#include <array>
#include <unordered_map>

#include "engine/checkpoint/endian.h"

// What a parsed pickle can be asked. The machine that reads it stands in pickle.cpp, what it makes in pickle_values.cpp.
namespace frost::pickle {

const char* name_of(Kind kind) {
  constexpr std::array names = {"none",  "bool", "int",  "big int", "float",   "text",   "bytes",  "list",
                                "tuple", "set",  "dict", "global",  "storage", "tensor", "object", "call"};
  return names[static_cast<std::size_t>(kind)];
}

std::size_t size_of(ElementType type) {
  switch (type) {
    case ElementType::f64:
    case ElementType::i64:
      return 8;
    case ElementType::f32:
    case ElementType::i32:
      return 4;
    case ElementType::f16:
    case ElementType::bf16:
    case ElementType::i16:
      return 2;
    case ElementType::i8:
    case ElementType::u8:
    case ElementType::boolean:
    case ElementType::untyped:
      return 1;
  }
  return 0;
}

std::int64_t Tensor::elements() const {
  std::int64_t n = 1;
  for (const auto d : size) n *= d;
  return n;
}

Ref Document::get(Ref of, std::string_view key) const {
  if (!is(of, Kind::dict) && !is(of, Kind::object)) return kNothing;
  const auto& items = values_[of].items;
  spend(items.size() * sizeof(Ref));
  for (std::size_t i = items.size(); i >= 2; i -= 2)  // backwards: the last of equal keys counts
    if (is(items[i - 2], Kind::text) && values_[items[i - 2]].text == key) return items[i - 1];
  return kNothing;
}

Ref Document::find(Ref from, std::string_view dotted) const {
  while (from != kNothing && !dotted.empty()) {
    const auto dot = std::min(dotted.find('.'), dotted.size());
    from = get(from, dotted.substr(0, dot));
    dotted.remove_prefix(std::min(dot + 1, dotted.size()));
  }
  return from;
}

Document::Pairs Document::entries(Ref dict) const {
  Pairs pairs;
  if (!is(dict, Kind::dict) && !is(dict, Kind::object)) return pairs;
  std::unordered_map<std::string, std::size_t> position;
  const auto& items = values_[dict].items;
  for (std::size_t i = 0; i + 1 < items.size(); i += 2) {
    const Value& key = values_[items[i]];
    spend(sizeof(Value) + key.text.size());
    const auto [known, fresh] =
        position.emplace(key.kind == Kind::text ? "t" + key.text : "i" + std::to_string(key.integer), pairs.size());
    if (fresh)
      pairs.emplace_back(items[i], items[i + 1]);
    else
      pairs[known->second].second = items[i + 1];
  }
  return pairs;
}

std::string_view Document::symbol(Ref ref) const {
  if (ref == kNothing) return {};
  const Value& v = values_[ref];
  if (v.kind == Kind::symbol) return v.text;
  const bool headed = (v.kind == Kind::object || v.kind == Kind::call) && is(v.head, Kind::symbol);
  return headed ? std::string_view(values_[v.head].text) : std::string_view();
}

namespace {

/// "f8", "i4", ...: the bytes of one numpy number as a double; nothing for other types.
std::optional<double> numpy_element(std::string_view type, const char* data) {
  const auto* bytes = reinterpret_cast<const std::byte*>(data);
  if (type == "f8") return little<double>(bytes);
  if (type == "f4") return little<float>(bytes);
  if (type == "i8") return static_cast<double>(little<std::int64_t>(bytes));
  if (type == "i4") return little<std::int32_t>(bytes);
  if (type == "i2") return little<std::int16_t>(bytes);
  if (type == "i1") return little<std::int8_t>(bytes);
  if (type == "u1" || type == "b1") return little<std::uint8_t>(bytes);
  return {};
}

/// The values of `bytes` under a pickled numpy.dtype: a call ("f8", ...) with the state (3, "<", ...).
std::optional<std::vector<double>> numpy_values(const Document& d, Ref dtype, Ref bytes) {
  if (d.symbol(dtype) != "numpy.dtype" || d[dtype].items.empty() || !d.is(d[dtype].items[0], Kind::text) ||
      !d.is(bytes, Kind::bytes))
    return {};
  const std::string& type = d[d[dtype].items[0]].text;
  const Ref state = d[dtype].state;
  if (d.is(state, Kind::tuple) && d[state].items.size() > 1 && d.is(d[state].items[1], Kind::text) &&
      d[d[state].items[1]].text == ">")
    return {};
  if (type.size() != 2 || type[1] < '1' || type[1] > '8') return {};
  const auto width = static_cast<std::size_t>(type[1] - '0');
  const std::string& raw = d[bytes].text;
  if (raw.size() % width != 0) return {};
  d.spend(raw.size() / width * sizeof(double));
  std::vector<double> values;
  for (std::size_t i = 0; i < raw.size(); i += width) {
    const auto value = numpy_element(type, raw.data() + i);
    if (!value) return {};
    values.push_back(*value);
  }
  return values;
}

}  // namespace

std::optional<double> Document::number(Ref ref) const {
  if (ref == kNothing) return {};
  const Value& v = values_[ref];
  if (v.kind == Kind::boolean || v.kind == Kind::integer) return static_cast<double>(v.integer);
  if (v.kind == Kind::real) return v.real;
  if (v.kind == Kind::call && symbol(ref).starts_with("numpy.") && symbol(ref).ends_with("multiarray.scalar") &&
      v.items.size() == 2)
    if (const auto values = numpy_values(*this, v.items[0], v.items[1]); values && values->size() == 1)
      return values->front();
  return {};
}

std::optional<std::vector<double>> Document::numbers(Ref ref) const {
  if (const auto one = number(ref)) return std::vector{*one};
  if (ref == kNothing) return {};
  const Value& v = values_[ref];
  if (v.kind == Kind::list || v.kind == Kind::tuple) {
    spend(v.items.size() * sizeof(double));
    std::vector<double> values;
    for (const Ref item : v.items) {
      const auto value = number(item);
      if (!value) return {};
      values.push_back(*value);
    }
    return values;
  }
  // an array: _reconstruct(...) with the state (1, shape, dtype, fortran order, bytes)
  if (v.kind == Kind::call && symbol(ref).starts_with("numpy.") && symbol(ref).ends_with("multiarray._reconstruct") &&
      is(v.state, Kind::tuple) && values_[v.state].items.size() == 5)
    return numpy_values(*this, values_[v.state].items[2], values_[v.state].items[4]);
  return {};
}

}  // namespace frost::pickle
