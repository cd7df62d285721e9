#include "models/zoo/weights.h"

#include <doctest/doctest.h>

#include <cstdlib>

#include "tests/engine/torch_builder.h"

using namespace frost;
using namespace frost::build;
namespace fs = std::filesystem;

namespace {
const Folder folder;

/// A "release" on this disk, so that no test needs the network; libcurl reads file:// as it reads https://.
WeightsOptions local_release(const std::string& cache) {
  fs::create_directories(folder / "release");
  return {.cache = folder / cache, .url = "file://" + (folder / "release").string(), .minimum_bytes = 100};
}
}  // namespace

TEST_CASE("a file that exists is taken as it is, blanks and quotes around the name aside") {
  const auto path = folder.write("mine.pt", "x");
  CHECK(find_weights(path.string()) == path);
  CHECK(find_weights(" '" + path.string() + "' ") == path);
}

TEST_CASE("a released name comes from the cache, and is downloaded into it once") {
  const auto options = local_release("cache");
  const std::string bytes(2'500'000, 'w');
  folder.write("release/yolov5s6.pt", bytes);
  struct : Observer {
    std::string said;
    std::int64_t total = 0, done = 0;
    bool finished = false;
    void warning(const std::string& text) override { said += text; }
    void progress_began(const std::string&, std::int64_t steps) override { total = steps; }
    void progress(const std::string&, std::int64_t steps) override { done = steps; }
    void progress_ended(bool whole) override { finished = whole; }
  } observer;
  const auto path = find_weights("yolov5s6.pt", observer, options);
  CHECK(has(observer.said, "Downloading " + options.url + "/yolov5s6.pt to "));
  CHECK((observer.total == 2 && observer.done == 2 && observer.finished));
  CHECK(path == folder / "cache/yolov5s6.pt");
  CHECK(contents(path) == bytes);
  fs::remove(folder / "release/yolov5s6.pt");
  CHECK(find_weights("some/where/yolov5s6.pt", silence(), options) == path);  // no second download: the release is gone
}

TEST_CASE("a failed download leaves nothing and names the URL") {
  const auto options = local_release("empty");
  const auto missing = error_of([&] { find_weights("yolov5x-seg.pt", silence(), options); });
  CHECK(has(missing, "cannot download " + options.url + "/yolov5x-seg.pt: "));
  CHECK(!has(missing, "\n"));
  folder.write("release/yolov5n.pt", "Not Found");
  CHECK(has(error_of([&] { find_weights("yolov5n.pt", silence(), options); }), "only 9 bytes came"));
  CHECK(fs::is_empty(folder / "empty"));
  folder.write("afile", "");
  auto unwritable = local_release("afile");
  CHECK(has(error_of([&] { find_weights("yolov5n.pt", silence(), unwritable); }), "cannot write"));
}

TEST_CASE("an unknown name is not asked for anywhere") {
  for (const char* name : {"yolov5q.pt", "yolov5s7.pt", "best.pt", "yolov5s", "../yolov5s.pth"})
    CHECK(has(error_of([&] { find_weights(name, silence(), local_release("cache2")); }),
              std::string("weights file not found: ") + name));
  CHECK(has(error_of([] { find_weights(" \"\" "); }), "no weights file is named"));
}

TEST_CASE("where the cache lies") {
  setenv("HOME", "/home/someone", 1);
  unsetenv("FROST_CACHE");
  unsetenv("XDG_CACHE_HOME");
  CHECK(weights_cache() == "/home/someone/.cache/frost/weights");
  setenv("XDG_CACHE_HOME", "/var/cache", 1);
  CHECK(weights_cache() == "/var/cache/frost/weights");
  setenv("FROST_CACHE", "/data/frost", 1);
  CHECK(weights_cache() == "/data/frost/weights");
}
