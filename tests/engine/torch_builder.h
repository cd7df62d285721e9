#pragma once
#include <unistd.h>

#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kernels/error.h"

/// Pickles, zip files and torch files, byte by byte: what no honest program would write can be written too.
namespace frost::build {

template <class T>
std::string little(T value) {
  std::string out(sizeof(T), '\0');
  std::memcpy(out.data(), &value, sizeof(T));
  return out;
}

// ---- fragments of a pickle: each leaves one value on the stack
using Fragments = std::initializer_list<std::string>;
using Pairs = std::vector<std::pair<std::string, std::string>>;

inline std::string joined(Fragments parts) {
  std::string out;
  for (const auto& p : parts) out += p;
  return out;
}
inline std::string none() { return "N"; }
inline std::string boolean(bool value) { return value ? "\x88" : "\x89"; }
inline std::string integer(std::int32_t value) { return "J" + little(value); }
inline std::string real(double value) { return "G" + little(__builtin_bswap64(std::bit_cast<std::uint64_t>(value))); }
inline std::string text(std::string_view value) {
  return "X" + little(static_cast<std::uint32_t>(value.size())) + std::string(value);
}
inline std::string tuple(Fragments items) { return "(" + joined(items) + "t"; }
inline std::string list(Fragments items) { return "](" + joined(items) + "e"; }
inline std::string pairs(const Pairs& items) {
  std::string out = "(";
  for (const auto& [key, value] : items) out += text(key) + value;
  return out + "u";
}
inline std::string dict(const Pairs& items) { return "}" + pairs(items); }
inline std::string global(std::string_view module, std::string_view name) {
  return "c" + std::string(module) + "\n" + std::string(name) + "\n";
}
inline std::string reduce(const std::string& callable, Fragments arguments) { return callable + tuple(arguments) + "R"; }
inline std::string ordered(const Pairs& items) { return global("collections", "OrderedDict") + ")R" + pairs(items); }
inline std::string object(std::string_view module, std::string_view name, const Pairs& attributes) {
  return global(module, name) + ")\x81" + dict(attributes) + "b";
}
inline std::string storage(std::string_view type, std::string_view key, std::int32_t count) {
  return tuple({text("storage"), global("torch", type), text(key), text("cpu"), integer(count)}) + "Q";
}
inline std::string integers(const std::vector<std::int32_t>& values) {
  std::string out = "(";
  for (const auto v : values) out += integer(v);
  return out + "t";
}
inline std::string tensor(const std::string& storage, std::int32_t offset, const std::vector<std::int32_t>& size,
                          const std::vector<std::int32_t>& stride) {
  return reduce(global("torch._utils", "_rebuild_tensor_v2"),
                {storage, integer(offset), integers(size), integers(stride), boolean(false), ordered({})});
}
/// What a hostile file holds instead of a value.
inline std::string os_system() { return reduce(global("posix", "system"), {text("touch /tmp/frost_was_hacked")}); }
inline std::string pickled(const std::string& fragment) { return "\x80\x02" + fragment + "."; }

template <class T>
std::string raw(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

// ---- zip
inline std::uint32_t crc32(std::string_view data) {
  static const auto table = [] {  // by the byte: files of 45 MB are made
    std::array<std::uint32_t, 256> of{};
    for (std::uint32_t byte = 0; byte < 256; ++byte) {
      of[byte] = byte;
      for (int bit = 0; bit < 8; ++bit) of[byte] = of[byte] >> 1 ^ (of[byte] & 1 ? 0xEDB88320u : 0u);
    }
    return of;
  }();
  std::uint32_t crc = ~0u;
  const std::uint32_t* row = table.data();
  for (const char c : data) crc = crc >> 8 ^ row[(crc ^ static_cast<std::uint8_t>(c)) & 255];
  return ~crc;
}

struct ZipEntry {
  std::string name, data;
  std::uint32_t crc_error = 0;  // added to the checksum
  bool deflated = false;        // one uncompressed deflate block: needs no compressor
  std::uint16_t method = 0, flags = 0;
  std::int32_t size_error = 0;  // added to the uncompressed size in the directory
  std::string local_name{};     // where the local header tells another name
  std::int64_t offset = -1;     // where the directory tells another place
  bool directory_only = false;  // no header and data of its own
};

inline std::string zipped(const std::vector<ZipEntry>& entries) {
  std::string out, directory;
  for (const auto& e : entries) {
    std::string data = e.data;
    std::uint16_t method = e.method;
    if (e.deflated) {
      const auto n = static_cast<std::uint16_t>(data.size());
      data = "\x01" + little(n) + little(static_cast<std::uint16_t>(~n)) + data;
      method = 8;
    }
    const std::uint32_t checksum = crc32(e.data) + e.crc_error;
    const std::string& local_name = e.local_name.empty() ? e.name : e.local_name;
    const auto head = [&](const std::string& name) {
      return little<std::uint16_t>(20) + little(e.flags) + little(method) + little<std::uint32_t>(0) + little(checksum) +
             little(static_cast<std::uint32_t>(data.size())) +
             little(static_cast<std::uint32_t>(static_cast<std::int64_t>(e.data.size()) + e.size_error)) +
             little(static_cast<std::uint16_t>(name.size())) + little<std::uint16_t>(0);
    };
    const auto offset = static_cast<std::uint32_t>(e.offset >= 0 ? static_cast<std::size_t>(e.offset) : out.size());
    if (!e.directory_only) out += "PK\3\4" + head(local_name) + local_name + data;
    directory += "PK\1\2" + little<std::uint16_t>(20) + head(e.name) + little<std::uint16_t>(0) + little<std::uint16_t>(0) +
                 little<std::uint16_t>(0) + little<std::uint32_t>(0) + little(offset) + e.name;
  }
  const auto count = static_cast<std::uint16_t>(entries.size());
  return out + directory + "PK\5\6" + little<std::uint32_t>(0) + little(count) + little(count) +
         little(static_cast<std::uint32_t>(directory.size())) + little(static_cast<std::uint32_t>(out.size())) +
         little<std::uint16_t>(0);
}

/// The entries of a torch file with this pickle and these storages.
inline std::vector<ZipEntry> torch_entries(const std::string& pickle, const Pairs& storages) {
  std::vector<ZipEntry> entries = {{"archive/data.pkl", pickle}};
  for (const auto& [key, data] : storages) entries.push_back({"archive/data/" + key, data});
  entries.push_back({"archive/version", "3\n"});
  return entries;
}
inline std::string torch_zip(const std::string& pickle, const Pairs& storages) {
  return zipped(torch_entries(pickle, storages));
}

/// A folder of its own for each test program, removed at its end.
class Folder {
 public:
  Folder() : path_(std::filesystem::temp_directory_path() / ("frost_test_" + std::to_string(getpid()))) {
    std::filesystem::create_directories(path_);
  }
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  std::filesystem::path write(const std::string& name, std::string_view bytes) const {
    std::ofstream(path_ / name, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    return path_ / name;
  }
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

inline std::string contents(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

/// The text of the frost::Error that `run` throws; "" if it throws none.
template <class Run>
std::string error_of(Run run) {
  try {
    run();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}
inline bool has(const std::string& text, std::string_view part) { return text.find(part) != text.npos; }

}  // namespace frost::build
