#include "engine/checkpoint/zip_archive.h"

#include <zip.h>

#include <cstring>

#include "kernels/error.h"

namespace frost {
namespace {

/// A stored entry cannot lie about its size. A deflated one unpacks to at most this many times its own bytes: a longest
/// match, 258 bytes, takes two bits.
constexpr std::uint64_t kMaxRatio = 1032;

bool unsafe(std::string_view name) {
  return name.empty() || name.front() == '/' || name.find('\\') != name.npos || name.find("..") != name.npos;
}

std::string cause_of(const zip_error_t& error) {
  switch (zip_error_code_zip(&error)) {
    case ZIP_ER_NOZIP:
      return "the zip directory at its end is missing: truncated, or an unfinished download";
    case ZIP_ER_INCONS:
      return "the zip directory does not agree with the entries: truncated or corrupt";
    case ZIP_ER_EXISTS:
      return "zip: two entries have the same name";
    case ZIP_ER_CRC:
      return "corrupt: the checksum differs";
    default: {
      zip_error_t copy = error;
      return zip_error_strerror(&copy);
    }
  }
}

}  // namespace

ZipArchive::ZipArchive(std::span<const std::byte> bytes) : zip_(nullptr, [](struct zip* z) { zip_discard(z); }) {
  zip_error_t error;
  zip_error_init(&error);
  zip_source_t* source = zip_source_buffer_create(bytes.data(), bytes.size(), 0, &error);
  FROST_CHECK(source, "zip: ", cause_of(error));
  // ZIP_CHECKCONS: local headers must agree with the directory, and names may not occur twice.
  zip_.reset(zip_open_from_source(source, ZIP_RDONLY | ZIP_CHECKCONS, &error));
  if (!zip_) {
    zip_source_free(source);
    fail(cause_of(error));
  }
  const auto count = zip_get_num_entries(zip_.get(), 0);
  std::uint64_t total = 0;
  for (zip_int64_t i = 0; i < count; ++i) {
    zip_stat_t stat;
    zip_stat_init(&stat);
    FROST_CHECK(zip_stat_index(zip_.get(), static_cast<zip_uint64_t>(i), ZIP_FL_ENC_RAW, &stat) == 0, "zip: entry ", i,
                " cannot be read");
    const std::string name = stat.name;
    FROST_CHECK(!unsafe(name), "zip: refused the entry name '", name, "'");
    FROST_CHECK(stat.encryption_method == ZIP_EM_NONE, "zip: entry ", name, " is encrypted");
    FROST_CHECK(stat.comp_method == ZIP_CM_STORE || stat.comp_method == ZIP_CM_DEFLATE, "zip: entry ", name,
                ": compression method ", stat.comp_method, " is not supported");
    FROST_CHECK(stat.comp_method != ZIP_CM_STORE || stat.size == stat.comp_size, "zip: entry ", name,
                " is stored, but its two sizes differ");
    FROST_CHECK(stat.comp_method == ZIP_CM_STORE || stat.size / kMaxRatio <= stat.comp_size, "zip: entry ", name, " claims ",
                stat.size, " bytes, its ", stat.comp_size, " deflated ones cannot hold them");
    // Together they need more than the file has: this also bounds what all of them can unpack to.
    FROST_CHECK(stat.comp_size <= bytes.size() - total, "zip: entries overlap");
    total += stat.comp_size;
    index_.emplace(name, Entry{static_cast<std::uint64_t>(i), stat.size});
    names_.push_back(name);
  }
}

const ZipArchive::Entry& ZipArchive::entry(const std::string& name) const {
  const auto it = index_.find(name);
  FROST_CHECK(it != index_.end(), "zip: no entry ", name);
  return it->second;
}

std::uint64_t ZipArchive::size(const std::string& name) const { return entry(name).size; }

std::vector<std::byte> ZipArchive::read(const std::string& name) const {
  const Entry& e = entry(name);
  zip_file_t* file = zip_fopen_index(zip_.get(), e.index, 0);
  FROST_CHECK(file, "zip: entry ", name, ": ", cause_of(*zip_get_error(zip_.get())));
  std::vector<std::byte> bytes(e.size);
  const zip_int64_t got = zip_fread(file, bytes.data(), bytes.size());
  std::byte beyond;  // the checksum is compared where the entry ends: read past it
  const zip_int64_t rest = got == static_cast<zip_int64_t>(bytes.size()) ? zip_fread(file, &beyond, 1) : 0;
  const std::string cause =
      got < 0 || rest < 0 ? cause_of(*zip_file_get_error(file)) : "shorter or longer than the directory says";
  zip_fclose(file);
  FROST_CHECK(got == static_cast<zip_int64_t>(bytes.size()) && rest == 0, "zip: entry ", name, ": ", cause);
  return bytes;
}

}  // namespace frost
