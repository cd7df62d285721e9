#include "engine/base/byte_store.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include <filesystem>

#include "kernels/error.h"

using namespace frost;

TEST_CASE("a byte store gives back what was put in, in memory and on disk, and leaves no file") {
  const std::filesystem::path folder = std::filesystem::temp_directory_path() / ("frost-store-" + std::to_string(getpid()));
  std::filesystem::create_directories(folder);
  for (const bool disk : {false, true}) {
    CAPTURE(disk);
    ByteStore store(disk ? folder : "");
    std::vector<std::vector<std::byte>> records;
    for (std::size_t size : {1u, 7u, 100000u, 0u, 4096u}) {
      std::vector<std::byte> bytes(size);
      for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(i * 31 + size);
      CHECK(store.put(bytes) == records.size());
      records.push_back(std::move(bytes));
    }
    CHECK(store.bytes() == 1 + 7 + 100000 + 4096);
    for (std::size_t r = records.size(); r-- > 0;) {
      std::vector<std::byte> back(store.size_of(r));
      store.get(r, back);
      CHECK((back == records[r]));
    }
    CHECK(std::filesystem::is_empty(folder));  // the file has no name while it is in use, either
  }
  std::filesystem::remove(folder);
  CHECK_THROWS_AS(ByteStore(folder / "nowhere"), Error);
}
