#include "engine/base/atomic_file.h"

#include <doctest/doctest.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <csignal>
#include <stdexcept>

#include "tests/engine/torch_builder.h"

using namespace frost;
using namespace frost::build;
namespace fs = std::filesystem;

namespace {
const Folder folder;

void put(const fs::path& path, const std::string& bytes) {
  write_file_atomically(path, [&](FileSink& file) { file.write(bytes); });
}
std::size_t files_in(const fs::path& path) {
  return static_cast<std::size_t>(std::distance(fs::directory_iterator(path), fs::directory_iterator()));
}

/// Files of this process may not grow beyond `bytes`: what a full disk looks like to write().
class DiskLimit {
 public:
  explicit DiskLimit(rlim_t bytes) {
    std::signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &old_);
    const rlimit limit{bytes, old_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~DiskLimit() { setrlimit(RLIMIT_FSIZE, &old_); }

 private:
  rlimit old_{};
};
}  // namespace

TEST_CASE("writes small and large pieces in order, makes folders, replaces") {
  const auto path = folder / "a/b/file.bin";
  std::string expected;
  write_file_atomically(path, [&](FileSink& file) {
    for (int i = 0; i < 50; ++i) {
      const std::string piece(static_cast<std::size_t>(i * i * 97 % 100'000), static_cast<char>('a' + i % 26));
      file.write(piece);
      expected += piece;
    }
  });
  CHECK(contents(path) == expected);
  put(path, "new");
  CHECK(contents(path) == "new");
  put(path, "");
  CHECK(contents(path).empty());
  CHECK(files_in(path.parent_path()) == 1);
}

TEST_CASE("a full disk or an exception keeps the old file and leaves no other") {
  fs::create_directories(folder / "full");
  const auto path = folder / "full/best.bin";
  put(path, "old");
  {
    const DiskLimit limit(200'000);
    const auto message = error_of([&] { put(path, std::string(300'000, 'x')); });
    CHECK(message == "cannot write " + path.string() + ": File too large");
  }
  CHECK(contents(path) == "old");
  CHECK_THROWS_AS(write_file_atomically(path,
                                        [](FileSink& file) {
                                          file.write("half of it");
                                          throw std::runtime_error("no more");
                                        }),
                  std::runtime_error);
  CHECK(contents(path) == "old");
  CHECK(files_in(folder / "full") == 1);
}

TEST_CASE("a reader never sees half a file") {
  const auto path = folder / "whole.bin";
  put(path, "old");
  write_file_atomically(path, [&](FileSink& file) {
    file.write(std::string(1'000'000, 'n'));
    CHECK(contents(path) == "old");
  });
  CHECK(contents(path).size() == 1'000'000);
}

TEST_CASE("links stay links, modes stay modes, devices and folders are refused") {
  const auto target = folder / "target.bin", link = folder / "link.bin";
  put(target, "one");
  fs::permissions(target, fs::perms::owner_read | fs::perms::owner_write);
  fs::create_symlink(target, link);
  put(link, "two");
  CHECK(fs::is_symlink(link));
  CHECK(contents(target) == "two");
  CHECK((fs::status(target).permissions() & fs::perms::all) == (fs::perms::owner_read | fs::perms::owner_write));
  CHECK(has(error_of([&] { put(folder.path(), "x"); }), "not a regular file"));
  CHECK(has(error_of([&] { put("/dev/null", "x"); }), "not a regular file"));
  CHECK(has(error_of([&] { put("", "x"); }), "not a file name"));
  CHECK(has(error_of([&] { put(target / "below", "x"); }), "cannot write"));
}

TEST_CASE("temporary files of dead processes go where the name is ours and the age is reached; all others stay") {
  const auto place = folder / "dead";
  const std::string dead = ".999999999.tmp";
  const auto there = [&](const std::string& name) { return fs::exists(place / name); };
  const auto ours = [](const std::string& name) { return name == "a.csv" || name == "b"; };
  const std::vector<std::string> stay{".c" + dead,    ".a.csv.1.tmp", ".a.csv.tmp",
                                      "a.csv" + dead, ".a.csv.x.tmp", ".a.csv.999999999"};
  for (const std::string& name : stay) put(place / name, "x");
  for (const std::string name : {".a.csv", ".b"}) put(place / (name + dead), "x");
  fs::last_write_time(place / (".b" + dead), fs::file_time_type::clock::now() - std::chrono::hours(2));
  remove_dead_temporaries(place, ours, std::chrono::hours(1));
  CHECK(there(".a.csv" + dead));
  CHECK_FALSE(there(".b" + dead));
  remove_dead_temporaries(place, ours);
  CHECK_FALSE(there(".a.csv" + dead));
  for (const std::string& name : stay) CHECK_MESSAGE(there(name), name);
  remove_dead_temporaries(place / "nowhere", ours);
}
