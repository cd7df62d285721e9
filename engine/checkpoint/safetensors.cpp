#include "engine/checkpoint/safetensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cassert>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "engine/base/atomic_file.h"
#include "engine/base/input_file.h"

namespace frost {
namespace {

using nlohmann::json;
static_assert(std::endian::native == std::endian::little, "tensor files are little-endian and are copied as they are");

constexpr std::uint64_t kMaxHeader = 100'000'000;

/// How a type name of the format is read: `stored` bytes per element, and the DType it becomes.
struct StoredType {
  const char* name;
  std::size_t stored;
  DType becomes;
};
constexpr std::array kTypes = {
    StoredType{"F64", 8, DType::f64},   StoredType{"F32", 4, DType::f32}, StoredType{"F16", 2, DType::f16},
    StoredType{"BF16", 2, DType::bf16}, StoredType{"I64", 8, DType::i64}, StoredType{"I32", 4, DType::i32},
    StoredType{"U8", 1, DType::u8},     StoredType{"BOOL", 1, DType::u8}, StoredType{"I16", 2, DType::i32},
    StoredType{"I8", 1, DType::i32},    StoredType{"U16", 2, DType::i32}, StoredType{"U32", 4, DType::i64},
};

const char* written_name(DType type) {
  for (const auto& t : kTypes)
    if (t.becomes == type) return t.name;  // the first of a DType is the name of its own width
  assert(false);
  return "";
}

template <class From, class To>
std::vector<std::byte> widened(std::span<const std::byte> bytes) {
  std::vector<std::byte> out(bytes.size() / sizeof(From) * sizeof(To));
  for (std::size_t i = 0; i < bytes.size() / sizeof(From); ++i) {
    From from;
    std::memcpy(&from, bytes.data() + i * sizeof(From), sizeof(From));
    const To to = from;
    std::memcpy(out.data() + i * sizeof(To), &to, sizeof(To));
  }
  return out;
}

std::vector<std::byte> loaded(std::string_view type, std::span<const std::byte> bytes) {
  if (type == "I16") return widened<std::int16_t, std::int32_t>(bytes);
  if (type == "I8") return widened<std::int8_t, std::int32_t>(bytes);
  if (type == "U16") return widened<std::uint16_t, std::int32_t>(bytes);
  if (type == "U32") return widened<std::uint32_t, std::int64_t>(bytes);
  return {bytes.begin(), bytes.end()};
}

struct Entry {
  std::string name;
  const StoredType* type;
  std::vector<std::int64_t> shape;
  std::uint64_t begin, end;
};

/// The library keeps the last of two equal keys; the format forbids them, so they are seen while parsing.
json parse_header(std::string_view text) {
  FROST_CHECK(!text.empty() && text.front() == '{', "the header does not start with '{'");
  std::vector<std::set<std::string>> keys;
  const auto watch = [&](int depth, json::parse_event_t event, json& parsed) {
    FROST_CHECK(depth <= 4, "the header is nested too deeply");
    if (event == json::parse_event_t::object_start) keys.emplace_back();
    if (event == json::parse_event_t::object_end) keys.pop_back();
    if (event == json::parse_event_t::key) {
      const auto& key = parsed.get_ref<const std::string&>();
      FROST_CHECK(keys.back().insert(key).second, "the key ", key, " occurs twice");
    }
    return true;
  };
  try {
    return json::parse(text.begin(), text.end(), watch);
  } catch (const json::exception& error) {
    fail("the header is not JSON: ", error.what());
  }
}

std::uint64_t natural(const json& value, const std::string& what) {
  FROST_CHECK(value.is_number_unsigned(), what, " is not a non-negative integer");
  return value.get<std::uint64_t>();
}

Entry parse_entry(const std::string& name, const json& value) {
  FROST_CHECK(value.is_object() && value.size() == 3 && value.contains("dtype") && value.contains("shape") &&
                  value.contains("data_offsets"),
              "tensor ", name, ": needs dtype, shape and data_offsets");
  const json &dtype = value["dtype"], &shape = value["shape"], &offsets = value["data_offsets"];
  FROST_CHECK(dtype.is_string(), "tensor ", name, ": dtype is not text");
  const auto& type_name = dtype.get_ref<const std::string&>();
  const auto type = std::find_if(kTypes.begin(), kTypes.end(), [&](const StoredType& t) { return type_name == t.name; });
  FROST_CHECK(type != kTypes.end(), "tensor ", name, ": unsupported dtype ", type_name);
  FROST_CHECK(shape.is_array() && shape.size() <= 64, "tensor ", name, ": shape is not a list of dimensions");
  FROST_CHECK(offsets.is_array() && offsets.size() == 2, "tensor ", name, ": data_offsets are not [begin, end]");
  Entry entry{name, &*type, {}, natural(offsets[0], name + ": begin"), natural(offsets[1], name + ": end")};
  FROST_CHECK(entry.begin <= entry.end, "tensor ", name, ": ends before it begins");
  std::uint64_t bytes = type->stored;
  bool overflow = false;
  for (const json& dimension : shape) {
    const auto d = natural(dimension, name + ": a dimension");
    FROST_CHECK(d <= INT64_MAX, "tensor ", name, ": too many elements");
    overflow = __builtin_mul_overflow(bytes, d, &bytes) || overflow;
    entry.shape.push_back(static_cast<std::int64_t>(d));
  }
  FROST_CHECK(!overflow && bytes <= INT64_MAX, "tensor ", name, ": too many elements");
  FROST_CHECK(bytes == entry.end - entry.begin, "tensor ", name, ": shape ", shape_text(entry.shape), " of ", type_name,
              " needs ", bytes, " bytes, data_offsets give ", entry.end - entry.begin);
  return entry;
}

/// Everything before the values: the metadata, the tensors in the order of their bytes, and where their bytes begin.
struct Header {
  Metadata metadata{};
  std::vector<Entry> entries{};
  std::uint64_t data = 0;
};

/// Throws Error where the header is wrong or does not fit the file's size.
Header read_header(const InputFile& file) {
  const std::uint64_t size = file.size();
  FROST_CHECK(size >= 8, size == 0 ? "the file is empty" : "not a safetensors file: shorter than its 8-byte length");
  std::uint64_t length = 0;
  FROST_CHECK(file.read(std::as_writable_bytes(std::span(&length, 1))) == 8, "became shorter while it was read");
  FROST_CHECK(length >= 2 && length <= kMaxHeader, "not a safetensors file: a header of ", length, " bytes");
  FROST_CHECK(length <= size - 8, "truncated: the header needs ", length, " bytes, the file has ", size - 8);
  std::string text(static_cast<std::size_t>(length), '\0');
  FROST_CHECK(file.read(std::as_writable_bytes(std::span(text)), 8) == length, "became shorter while it was read");
  const json header = parse_header(text);

  Header out{.data = 8 + length};
  for (const auto& [name, value] : header.items()) {
    if (name != "__metadata__") {
      out.entries.push_back(parse_entry(name, value));
      continue;
    }
    FROST_CHECK(value.is_object(), "__metadata__ is not a map");
    for (const auto& [key, words] : value.items()) {
      FROST_CHECK(words.is_string(), "__metadata__: ", key, " is not text");
      out.metadata[key] = words.get<std::string>();
    }
  }
  std::stable_sort(out.entries.begin(), out.entries.end(),
                   [](const Entry& a, const Entry& b) { return std::tie(a.begin, a.end) < std::tie(b.begin, b.end); });
  const std::uint64_t bytes = size - out.data;
  std::uint64_t position = 0;
  for (const Entry& e : out.entries) {
    FROST_CHECK(e.begin >= position, "tensor ", e.name, " overlaps the one before it");
    FROST_CHECK(e.begin == position, "a gap of ", e.begin - position, " bytes before tensor ", e.name);
    FROST_CHECK(e.end <= bytes, "truncated: tensor ", e.name, " ends at byte ", e.end, " of ", bytes);
    position = e.end;
  }
  FROST_CHECK(position == bytes, bytes - position, " bytes after the last tensor");
  return out;
}

/// As read_header; errors name the file.
Header named_header(const InputFile& file) {
  try {
    return read_header(file);
  } catch (const Error& error) {
    const std::string name = file.path().string() + ": ", cause = error.what();
    fail(cause.starts_with(name) ? "" : name, cause);  // a failing disk is named already
  }
}

}  // namespace

Metadata read_safetensors_metadata(const std::filesystem::path& path) { return named_header(InputFile(path)).metadata; }

SafetensorsFile read_safetensors(const std::filesystem::path& path) {
  const InputFile file(path);
  Header header = named_header(file);
  const FileBytes bytes(file);
  SafetensorsFile out{.tensors = {}, .metadata = std::move(header.metadata)};
  for (Entry& e : header.entries) {
    const auto values =
        bytes.bytes().subspan(static_cast<std::size_t>(header.data + e.begin), static_cast<std::size_t>(e.end - e.begin));
    out.tensors.add(e.name, {e.type->becomes, std::move(e.shape), loaded(e.type->name, values)});
  }
  return out;
}

namespace {
/// The JSON before the data. Throws Error without the file's name.
std::string header_of(const StateDict& tensors, const Metadata& metadata) {
  // Written by hand: the library's ordered object searches all keys for each new one.
  std::string header = "{";
  const auto quoted = [&](const std::string& text) {
    try {
      return json(text).dump();
    } catch (const json::exception&) {
      fail("a name or a metadata text is not UTF-8");
    }
  };
  const auto comma = [&] {
    if (header.size() > 1) header += ',';
  };
  if (!metadata.empty())
    header += "\"__metadata__\":" + [&] {
      std::string map = "{";
      for (const auto& [key, text] : metadata) map += (map.size() > 1 ? "," : "") + quoted(key) + ":" + quoted(text);
      return map + "}";
    }();
  std::uint64_t position = 0;
  for (const auto& [name, tensor] : tensors) {
    FROST_CHECK(name != "__metadata__", "a tensor may not be called __metadata__");
    assert(tensor.bytes.size() == static_cast<std::size_t>(tensor.count()) * size_of(tensor.dtype));
    comma();
    header += quoted(name) + ":{\"dtype\":\"" + written_name(tensor.dtype) + "\",\"shape\":" + json(tensor.shape).dump() +
              ",\"data_offsets\":[" + std::to_string(position) + "," + std::to_string(position + tensor.bytes.size()) + "]}";
    position += tensor.bytes.size();
  }
  header += '}';
  header.resize((header.size() + 7) / 8 * 8, ' ');  // so that the data begins at a multiple of 8
  FROST_CHECK(header.size() <= kMaxHeader, "a header of ", header.size(), " bytes");
  return header;
}
}  // namespace

std::int64_t safetensors_size(const StateDict& tensors, const Metadata& metadata) {
  auto size = static_cast<std::int64_t>(sizeof(std::uint64_t) + header_of(tensors, metadata).size());
  for (const auto& [name, tensor] : tensors) size += std::ssize(tensor.bytes);
  return size;
}

void write_safetensors(const std::filesystem::path& path, const StateDict& tensors, const Metadata& metadata) {
  std::string header;
  try {
    header = header_of(tensors, metadata);
  } catch (const Error& error) {
    fail("cannot write ", path.string(), ": ", error.what());
  }
  write_file_atomically(path, [&](FileSink& file) {
    const std::uint64_t length = header.size();
    file.write(&length, 8);
    file.write(header);
    for (const auto& [name, tensor] : tensors) file.write(tensor.bytes.data(), tensor.bytes.size());
  });
}

}  // namespace frost
