#include "engine/checkpoint/torch_file.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace frost {
namespace {

using pickle::ElementType;
using pickle::Kind;
using pickle::kNothing;
using pickle::Ref;

constexpr std::array<unsigned char, 16> kLegacyStart = {0x80, 0x02, 0x8A, 0x0A, 0x6C, 0xFC, 0x9C, 0x46,
                                                        0xF9, 0x20, 0x6A, 0xA8, 0x50, 0x19, 0x2E, 0x80};
constexpr std::size_t kMaxDepth = 1000;

std::string_view text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// Why a file that is no torch file might be there.
std::string diagnosis(std::string_view file) {
  const auto begins = [&](std::string_view mark) { return file.starts_with(mark); };
  if (file.empty()) return "the file is empty";
  if (begins("<!") || begins("<html")) return "not a checkpoint but a web page (a failed download)";
  if (file.size() > 262 && file.substr(257, 5) == "ustar")
    return "a tar checkpoint of torch before 0.1.10, which is not supported";
  if (begins("PK") || std::string_view("PK\3\4").starts_with(file)) return "truncated zip file";
  if (begins("\x80")) return "a bare pickle, not a file of torch.save";
  return "not a checkpoint (neither a zip file nor a torch file of the older kind)";
}

bool is_zip(std::string_view file) { return file.size() > 4 && file.starts_with("PK\3\4"); }
bool is_legacy(std::string_view file) {
  return file.size() >= kLegacyStart.size() && std::memcmp(file.data(), kLegacyStart.data(), kLegacyStart.size()) == 0;
}

/// Only a file that begins as a torch file is read whole: others may be of any size.
FileBytes torch_bytes(const std::filesystem::path& path) {
  const InputFile file(path);
  const FileBytes start(file, 512);
  FROST_CHECK(is_zip(start.text()) || is_legacy(start.text()), path.string(), ": ", diagnosis(start.text()));
  return FileBytes(file);
}

struct HostType {
  DType dtype;
  std::size_t width;
};
HostType host_type(ElementType type) {
  switch (type) {
    case ElementType::f64:
      return {DType::f64, 8};
    case ElementType::f32:
      return {DType::f32, 4};
    case ElementType::f16:
      return {DType::f16, 2};
    case ElementType::bf16:
      return {DType::bf16, 2};
    case ElementType::i64:
      return {DType::i64, 8};
    case ElementType::i32:
    case ElementType::i16:
    case ElementType::i8:
      return {DType::i32, 4};  // no DType of their own
    case ElementType::u8:
    case ElementType::boolean:
    case ElementType::untyped:
      return {DType::u8, 1};
  }
  return {DType::u8, 1};
}

/// Copies the elements of a strided tensor in row-major order, `copy(from)` once for each element.
template <class Copy>
void each_element(const pickle::Tensor& t, Copy copy) {
  if (t.elements() == 0) return;
  std::vector<std::int64_t> index(t.size.size(), 0);
  for (std::int64_t from = t.offset;;) {
    copy(from);
    std::size_t d = t.size.size();
    for (; d > 0; --d) {
      from += t.stride[d - 1];
      if (++index[d - 1] < t.size[d - 1]) break;
      from -= t.stride[d - 1] * t.size[d - 1];
      index[d - 1] = 0;
    }
    if (d == 0) return;
  }
}

bool contiguous(const pickle::Tensor& t) {
  std::int64_t expected = 1;
  for (std::size_t d = t.size.size(); d-- > 0;) {
    if (t.size[d] != 1 && t.stride[d] != expected) return false;
    expected *= t.size[d];
  }
  return true;
}

}  // namespace

TorchFile::TorchFile(const std::filesystem::path& path)
    : path_(path), file_(torch_bytes(path)), budget_(std::make_shared<Budget>(file_.bytes().size())) {
  try {
    if (is_zip(file_.text()))
      read_zip();
    else
      read_legacy();
  } catch (const Error& error) {
    fail(path_.string(), ": ", error.what());
  }
}

void TorchFile::read_zip() {
  zip_ = std::make_unique<ZipArchive>(file_.bytes());
  constexpr std::string_view kPickle = "/data.pkl";
  std::size_t pickles = 0;
  for (const auto& name : zip_->names()) {
    if (!name.ends_with(kPickle)) continue;
    ++pickles;
    folder_ = name.substr(0, name.size() - kPickle.size() + 1);
  }
  FROST_CHECK(pickles == 1, "not a checkpoint: a zip file with ", pickles, " entries called data.pkl");
  FROST_CHECK(!zip_->contains(folder_ + "constants.pkl"),
              "a TorchScript archive, not a checkpoint: use the .pt it was exported from");
  if (zip_->contains(folder_ + "version")) {
    const auto bytes = unzipped("version");
    const auto version = text_of(bytes);
    const auto digits = version.substr(0, version.find_last_not_of("\r\n ") + 1);
    FROST_CHECK(!digits.empty() && std::all_of(digits.begin(), digits.end(), [](char c) { return c >= '0' && c <= '9'; }),
                "the container's version is not a number");
  }
  if (zip_->contains(folder_ + "byteorder")) {
    const auto order = unzipped("byteorder");
    FROST_CHECK(text_of(order) == "little", "the byte order is '", shortened(text_of(order)), "', not little");
  }
  const auto pickle = unzipped("data.pkl");
  try {
    document_ = pickle::parse(pickle, nullptr, budget_);
  } catch (const Error& error) {
    fail("data.pkl: ", error.what());
  }
  for (const auto& storage : document_.storages()) {
    const std::string entry = folder_ + "data/" + storage.key;
    FROST_CHECK(zip_->contains(entry), "storage ", storage.key, " is missing");
    const auto needed = static_cast<std::uint64_t>(storage.stored) * pickle::size_of(storage.type);
    FROST_CHECK(zip_->size(entry) == needed, "storage ", storage.key, " has ", zip_->size(entry),
                " bytes, its tensors need ", needed);
  }
}

void TorchFile::read_legacy() {
  std::span<const std::byte> rest = file_.bytes();
  const auto next = [&](const char* what) {
    std::size_t used = 0;
    try {
      auto document = pickle::parse(rest, &used, budget_);
      rest = rest.subspan(used);
      return document;
    } catch (const Error& error) {
      fail(what, ": ", error.what());
    }
  };
  next("magic number");  // compared already
  const auto protocol = next("protocol");
  FROST_CHECK(protocol.number(protocol.root()) == 1001, "unknown protocol of the older container");
  const auto system = next("system");
  FROST_CHECK(system.number(system.get(system.root(), "little_endian")) == 1, "the file is not little-endian");
  document_ = next("object");
  const auto keys = next("storage keys");
  FROST_CHECK(keys.is(keys.root(), Kind::list), "the list of storages is missing");
  std::map<std::string_view, const pickle::Storage*> wanted;
  for (const auto& storage : document_.storages()) wanted.emplace(storage.key, &storage);
  for (const Ref item : keys[keys.root()].items) {
    FROST_CHECK(keys.is(item, Kind::text), "a storage's key is not text");
    const std::string& key = keys[item].text;
    const auto found = wanted.find(key);
    FROST_CHECK(found != wanted.end(), "storage ", key, " belongs to no tensor");
    const pickle::Storage& storage = *found->second;
    wanted.erase(found);
    FROST_CHECK(rest.size() >= 8, "truncated before storage ", key);
    std::int64_t count = 0;
    std::memcpy(&count, rest.data(), 8);
    rest = rest.subspan(8);
    FROST_CHECK(count == storage.stored, "storage ", key, " has ", count, " elements, its tensors need ", storage.stored);
    const auto bytes = static_cast<std::uint64_t>(count) * pickle::size_of(storage.type);  // fits: the pickle checked
    FROST_CHECK(bytes <= rest.size(), "truncated inside storage ", key);
    legacy_storages_.emplace(key, rest.first(static_cast<std::size_t>(bytes)));
    rest = rest.subspan(static_cast<std::size_t>(bytes));
  }
  FROST_CHECK(wanted.empty(), "storage ", wanted.begin()->first, " is missing");
  FROST_CHECK(rest.empty(), rest.size(), " bytes after the last storage");
}

std::vector<std::byte> TorchFile::unzipped(const std::string& entry) const {
  budget_->spend(zip_->size(folder_ + entry), "unpacking " + shortened(entry));
  return zip_->read(folder_ + entry);
}

/// Each storage is unpacked and checked once, however many tensors are views of it.
std::span<const std::byte> TorchFile::stored_bytes(const pickle::Storage& storage) const {
  if (!zip_) return legacy_storages_.at(storage.key);
  auto known = unpacked_.find(storage.key);
  if (known == unpacked_.end()) known = unpacked_.emplace(storage.key, unzipped("data/" + storage.key)).first;
  return known->second;
}

HostTensor TorchFile::tensor(Ref ref, std::string_view where) const {
  if (!document_.is(ref, Kind::tensor)) refuse(describe(ref) + " instead of a tensor", where);
  const pickle::Tensor& t = document_.tensor(ref);
  const pickle::Storage& storage = document_.storages()[t.storage];
  const HostType host = host_type(t.type);
  const std::int64_t count = t.elements();
  const auto width = pickle::size_of(t.type);
  HostTensor out{host.dtype, t.size, {}};
  std::span<const std::byte> stored;
  const bool fills = zip_ && host.width == width && contiguous(t) && t.offset == 0 && storage.first == 0 &&
                     static_cast<std::uint64_t>(count) * width == zip_->size(folder_ + "data/" + storage.key);
  try {
    budget_->spend(std::min(static_cast<std::uint64_t>(count), std::uint64_t{1} << 60) * host.width,  // i8 becomes i32
                   "a tensor of " + std::to_string(count) + " elements");
    if (fills && !unpacked_.contains(storage.key)) {  // the usual case: one storage, one tensor
      out.bytes = unzipped("data/" + storage.key);
      return out;
    }
    stored = stored_bytes(storage);
  } catch (const Error& error) {
    fail(path_.string(), ": ", shortened(where), ": ", error.what());
  }
  const std::byte* first = stored.data() + static_cast<std::size_t>(storage.first) * pickle::size_of(storage.type);
  if (host.width == width && contiguous(t)) {
    const auto bytes = static_cast<std::size_t>(count) * width;
    out.bytes.resize(bytes);
    if (bytes > 0) std::memcpy(out.bytes.data(), first + static_cast<std::size_t>(t.offset) * width, bytes);
    return out;
  }
  out.bytes.resize(static_cast<std::size_t>(count) * host.width);
  std::byte* to = out.bytes.data();
  each_element(t, [&](std::int64_t from) {
    const std::byte* element = first + static_cast<std::size_t>(from) * width;
    if (host.width == width) {
      std::memcpy(to, element, width);
    } else {  // i8 and i16 become i32
      std::int16_t two = 0;
      std::int8_t one = 0;
      std::memcpy(width == 2 ? static_cast<void*>(&two) : &one, element, width);
      const std::int32_t wide = width == 2 ? two : one;
      std::memcpy(to, &wide, sizeof wide);
    }
    to += host.width;
  });
  return out;
}

std::string TorchFile::describe(Ref ref) const {
  if (ref == kNothing) return "nothing";
  const auto kind = document_[ref].kind;
  const std::string symbol(document_.symbol(ref));
  if (kind == Kind::call || kind == Kind::symbol) return "refused global " + (symbol.empty() ? "(computed)" : symbol);
  return kind == Kind::object ? symbol : std::string("a ") + pickle::name_of(kind);
}

void TorchFile::refuse(std::string_view what, std::string_view where) const {
  fail(path_.string(), ": ", what, " at ", where.empty() ? "the root" : shortened(where));
}

struct TorchFile::Walk {
  StateDict state;
  std::size_t depth = 0;
};

void TorchFile::collect(Ref module, const std::string& prefix, Walk& walk) const {
  const auto& d = document_;
  const std::string where = prefix.substr(0, prefix.size() - std::min<std::size_t>(prefix.size(), 1));
  if (!d.is(module, Kind::object)) refuse(describe(module) + " instead of a module", where);
  if (++walk.depth > kMaxDepth) refuse("modules nested without end", where);
  if (where.size() > kMaxName) refuse("a name of " + std::to_string(where.size()) + " bytes", where);
  try {
    budget_->spend(256 + prefix.size(), "modules");
  } catch (const Error& error) {
    fail(path_.string(), ": ", error.what());
  }
  const auto named = [&](std::string_view group, auto visit) {
    const Ref map = d.get(module, group);
    if (map == kNothing || d.is(map, Kind::none)) return;
    if (!d.is(map, Kind::dict)) refuse(describe(map) + " instead of a map", prefix + std::string(group));
    for (const auto& [key, value] : d.entries(map)) {
      if (!d.is(key, Kind::text)) refuse("a name that is not text", prefix + std::string(group));
      if (!d.is(value, Kind::none)) visit(d[key].text, value);
    }
  };
  const auto add = [&](const std::string& name, Ref value) {
    if (prefix.size() + name.size() > kMaxName)
      refuse("a name of " + std::to_string(prefix.size() + name.size()) + " bytes", prefix + name);
    walk.state.add(prefix + name, tensor(value, prefix + name));
  };
  named("_parameters", add);
  const Ref transient = d.get(module, "_non_persistent_buffers_set");
  named("_buffers", [&](const std::string& name, Ref value) {
    if (d.is(transient, Kind::set))
      for (const Ref item : d[transient].items)
        if (d.is(item, Kind::text) && d[item].text == name) return;
    add(name, value);
  });
  named("_modules", [&](const std::string& name, Ref child) { collect(child, prefix + name + ".", walk); });
  --walk.depth;
}

StateDict TorchFile::module_state(Ref module) const {
  Walk walk;
  collect(module, "", walk);
  return std::move(walk.state);
}

StateDict TorchFile::tensors_of(Ref dict) const {
  const auto entries = document_.entries(dict);
  const auto prefixed = [&](const auto& e) {
    return document_.is(e.first, Kind::text) && document_[e.first].text.starts_with("module.");
  };
  const std::size_t drop = !entries.empty() && std::all_of(entries.begin(), entries.end(), prefixed) ? 7 : 0;
  StateDict state;
  for (const auto& [key, value] : entries) {
    if (!document_.is(key, Kind::text)) refuse("a name that is not text", "the state dict");
    const std::string name = document_[key].text.substr(drop);
    state.add(name, tensor(value, name));
  }
  return state;
}

Ref TorchFile::unwrapped(Ref module) const {
  const Ref inner = document_.symbol(module).starts_with("torch.nn.parallel.") ? document_.find(module, "_modules.module")
                                                                               : pickle::kNothing;
  return document_.is(inner, Kind::object) ? inner : module;
}

Ref TorchFile::weights() const {
  const auto& d = document_;
  for (const char* key : {"ema", "model", "state_dict"})
    if (const Ref inner = d.get(root(), key);
        d.is(root(), Kind::dict) && (d.is(inner, Kind::dict) || d.is(inner, Kind::object)))
      return unwrapped(inner);
  return unwrapped(root());
}

StateDict TorchFile::state_dict() const {
  const auto& d = document_;
  const Ref from = weights();
  if (d.is(from, Kind::object)) return module_state(from);
  if (!d.is(from, Kind::dict)) refuse(describe(from) + " instead of a state dict", "");
  return tensors_of(from);
}

}  // namespace frost
