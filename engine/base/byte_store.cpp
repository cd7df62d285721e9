#include "engine/base/byte_store.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>

#include "kernels/error.h"

namespace frost {

ByteStore::ByteStore(const std::filesystem::path& folder, bool sizes_alone) : folder_(folder), sizes_alone_(sizes_alone) {
  if (folder.empty() || sizes_alone) return;
  // A name that remove_dead_temporaries removes, in case this process is killed before the unlink below.
  const std::string end = "." + std::to_string(getpid()) + ".tmp";
  std::string name = (folder / ".store-XXXXXX").string() + end;
  file_ = mkostemps(name.data(), static_cast<int>(end.size()), O_CLOEXEC);
  FROST_CHECK(file_ >= 0, folder.string(), ": no file can be made here: ", std::strerror(errno));
  unlink(name.c_str());
}

ByteStore::~ByteStore() {
  if (file_ >= 0) close(file_);
}

std::size_t ByteStore::put(std::span<const std::byte> bytes) {
  Record record{.offset = end_, .bytes = bytes.size(), .memory = {}};
  if (file_ < 0 && !sizes_alone_) {
    record.memory = std::make_unique_for_overwrite<std::byte[]>(bytes.size());
    std::copy(bytes.begin(), bytes.end(), record.memory.get());
  }
  for (std::size_t done = 0; file_ >= 0 && done < bytes.size();) {
    const auto written =
        pwrite(file_, bytes.data() + done, bytes.size() - done, static_cast<off_t>(end_) + static_cast<off_t>(done));
    if (written < 0 && errno == EINTR) continue;
    FROST_CHECK(written > 0, folder_.string(), ": cannot be written to: ", std::strerror(errno));
    done += static_cast<std::size_t>(written);
  }
  end_ += static_cast<std::int64_t>(bytes.size());
  records_.push_back(std::move(record));
  return records_.size() - 1;
}

void ByteStore::get(std::size_t number, std::span<std::byte> to) const {
  const Record& record = records_[number];
  if (record.memory) {
    std::copy_n(record.memory.get(), record.bytes, to.begin());
    return;
  }
  for (std::size_t done = 0; done < record.bytes && !sizes_alone_;) {
    const auto got =
        pread(file_, to.data() + done, record.bytes - done, static_cast<off_t>(record.offset) + static_cast<off_t>(done));
    if (got < 0 && errno == EINTR) continue;
    FROST_CHECK(got > 0, folder_.string(), ": what was stored here cannot be read back: ", std::strerror(errno));
    done += static_cast<std::size_t>(got);
  }
}

}  // namespace frost
