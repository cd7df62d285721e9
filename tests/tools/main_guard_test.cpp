#include "tools/main_guard.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "kernels/error.h"

namespace {
template <class Run>
int run(std::vector<std::string> words, Run body) {
  words.insert(words.begin(), "tool");
  std::vector<char*> argv;
  for (auto& word : words) argv.push_back(word.data());
  return frost::run_tool("tool", static_cast<int>(argv.size()), argv.data(), body);
}
}  // namespace

TEST_CASE("main_guard: exit codes") {
  const auto parse_only = [](CLI::App& app, int argc, char** argv) {
    int epochs = 3;
    app.add_option("--epochs", epochs);
    frost::parse_arguments(app, argc, argv);
    return epochs;
  };
  CHECK(run({}, parse_only) == 3);
  CHECK(run({"--epochs", "7"}, parse_only) == 7);
  CHECK(run({"--help"}, parse_only) == 0);
  CHECK(run({"--epochs", "many"}, parse_only) == 2);
  CHECK(run({"--bogus"}, parse_only) == 2);
  CHECK(run({"--epochs"}, parse_only) == 2);
  CHECK(run({}, [](CLI::App&, int, char**) -> int { frost::fail("file.yaml: no such file"); }) == 1);
  CHECK(run({}, [](CLI::App&, int, char**) -> int { throw std::bad_alloc(); }) == 1);
}
