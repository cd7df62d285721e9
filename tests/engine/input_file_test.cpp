#include "engine/base/input_file.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <fstream>

#include "kernels/error.h"
#include "tests/models/temp_dataset.h"

namespace frost {
namespace {

namespace fs = std::filesystem;

std::string error_of(const fs::path& path) {
  try {
    read_text(path);
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

}  // namespace

TEST_CASE("input file: what is no regular file is refused at once, by name") {
  const test::TempDir dir;
  const fs::path fifo = dir / "pipe.pt", socket_file = dir / "socket.yaml", link = dir / "link.jpg";
  REQUIRE(mkfifo(fifo.c_str(), 0600) == 0);
  sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
  REQUIRE(socket_file.string().size() < sizeof address.sun_path);
  std::strcpy(address.sun_path, socket_file.c_str());
  const int listener = socket(AF_UNIX, SOCK_STREAM, 0);
  REQUIRE(bind(listener, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  fs::create_symlink(fifo, link);
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  const fs::path substitution = "/dev/fd/" + std::to_string(ends[0]);  // as <(...) in a shell
  for (const fs::path& path : {fifo, socket_file, link, fs::path("/dev/null"), fs::path("/dev/zero"), substitution})
    CHECK(error_of(path) == path.string() + ": not a regular file");
  for (const int descriptor : {listener, ends[0], ends[1]}) close(descriptor);

  CHECK(error_of(dir.string()) == dir.string() + ": is a folder, not a file");
  CHECK(error_of(dir / "none") == (dir / "none").string() + ": No such file or directory");
  fs::create_symlink("loop", dir / "loop");
  CHECK(error_of(dir / "loop") == (dir / "loop").string() + ": Too many levels of symbolic links");
  fs::create_symlink("nowhere", dir / "dangling");
  CHECK(error_of(dir / "dangling") == (dir / "dangling").string() + ": No such file or directory");
  if (geteuid() != 0) {
    const fs::path locked = dir.write("locked", "x");
    fs::permissions(locked, fs::perms::none);
    CHECK(error_of(locked) == locked.string() + ": Permission denied");
  }
}

TEST_CASE("input file: a git-lfs pointer is no file to read") {
  const test::TempDir dir;
  const std::string pointer =
      "version https://git-lfs.github.com/spec/v1\noid sha256:" + std::string(64, 'a') + "\nsize 14808437\n";
  const fs::path file = dir.write("model.pt", pointer);
  CHECK(error_of(file) == file.string() + ": is a git-lfs pointer, not the file itself (fetch it with git lfs pull)");
  CHECK(error_of(dir.write("long.txt", pointer + std::string(2000, ' '))) == "no error");  // a text about pointers
  CHECK(error_of(dir.write("short.txt", "version https://git-lfs")) == "no error");
}

TEST_CASE("input file: sizes, parts, links") {
  const test::TempDir dir;
  const fs::path file = dir.write("ten", "0123456789");
  fs::create_symlink("ten", dir / "link");
  CHECK(read_text(dir / "link") == "0123456789");
  CHECK(read_text(dir.write("empty", "")).empty());
  const InputFile in(file);
  CHECK(in.size() == 10);
  std::array<std::byte, 4> part{};
  CHECK(in.read(part, 8) == 2);
  CHECK(static_cast<char>(part[1]) == '9');
  CHECK(in.read(part, 100) == 0);
  CHECK(FileBytes(in, 3).text() == "012");
  CHECK(FileBytes(in, 30).text() == "0123456789");
  FileBytes bytes(in), moved(std::move(bytes));
  CHECK(moved.text() == "0123456789");
  CHECK(names_a_file(file));
  CHECK(names_a_file("/dev/null"));
  CHECK_FALSE(names_a_file(dir.string()));
  CHECK_FALSE(names_a_file(dir / "none"));
}

TEST_CASE("file bytes: a file that another process shortens is an error while it is read, and nothing after that") {
  const test::TempDir dir;
  const fs::path file = dir.write("model.pt", std::string(1 << 20, 'x'));
  const InputFile in(file);
  const FileBytes whole(in);
  fs::resize_file(file, 5000);  // as cp new.pt old.pt does, once the old one is open
  CHECK(whole.text() == std::string(1 << 20, 'x'));
  CHECK_THROWS_WITH_AS(FileBytes{in}, (file.string() + ": became shorter while it was read").c_str(), Error);
  CHECK(FileBytes(in, 5000).text() == std::string(5000, 'x'));
}

TEST_CASE("file bytes: more than memory holds is an error that names the file") {
  const test::TempDir dir;
  const fs::path file = dir.write("sparse.safetensors", "");
  std::error_code error;
  fs::resize_file(file, std::uintmax_t{1} << 43, error);  // 8 TiB of nothing
  if (error) return;                                      // some file systems have no such files
  CHECK(error_of(file) == file.string() + ": its 8796093022208 bytes do not fit into memory");
}

}  // namespace frost
