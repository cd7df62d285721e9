#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <regex>
#include <string>
#include <vector>

#include "tests/source_dir.h"

namespace fs = std::filesystem;

namespace {

/// Where each member function of `type` is defined: "max_pool_forward" -> "pool".
std::map<std::string, std::string> places(const fs::path& folder, const std::string& type) {
  std::map<std::string, std::string> found;
  const std::regex definition("\\b" + type + "::(\\w+)\\(");
  for (const auto& file : fs::recursive_directory_iterator(folder)) {
    if (const auto end = file.path().extension(); end != ".cpp" && end != ".cu") continue;
    std::ifstream in(file.path());
    const std::string text{std::istreambuf_iterator<char>(in), {}};
    std::string stem = file.path().stem().string();
    if (stem == "cpu_backend" || stem == "cuda_backend") stem = "backend";
    for (std::sregex_iterator it(text.begin(), text.end(), definition), last; it != last; ++it) found[(*it)[1]] = stem;
  }
  return found;
}

/// Kernels of a header (their structs' names) before which no comment names the lower bound.
std::vector<std::string> without_bound(const fs::path& header) {
  std::vector<std::string> nameless;
  std::ifstream in(header);
  std::string line, comment, kernel;
  bool bound = false;
  while (std::getline(in, line)) {
    if (line.starts_with("//")) comment += line;
    if (line.starts_with("struct ")) {
      kernel = line.substr(7, line.find_first_of(" :{", 7) - 7);
      bound = comment.find("Lower bound:") != std::string::npos;
    }
    if (line.starts_with("//") || line.starts_with("template ")) continue;
    comment.clear();
    const bool runs = line.find("FROST_HD void operator()(std::int64_t") != std::string::npos ||
                      line.find("FROST_HD void run(std::int64_t") != std::string::npos;
    if (runs && !bound) nameless.push_back(header.filename().string() + ": " + kernel);
  }
  return nameless;
}

}  // namespace

TEST_CASE("house: every CUDA kernel names its lower bound") {
  int headers = 0;
  for (const auto& file : fs::recursive_directory_iterator(frost::testing::source_dir() / "kernels" / "cuda")) {
    if (file.path().extension() != ".cuh") continue;
    ++headers;
    for (const auto& kernel : without_bound(file.path())) FAIL_CHECK(kernel);
  }
  CHECK(headers > 20);
}

TEST_CASE("house: every primitive stands in files of the same name for the CPU and for CUDA") {
  const fs::path kernels = frost::testing::source_dir() / "kernels";
  auto cpu = places(kernels / "cpu", "CpuBackend"), cuda = places(kernels / "cuda", "CudaBackend");
  CHECK(cpu.size() > 40);
  cpu.erase("CpuBackend");
  for (const auto& [function, place] : cpu) {
    CAPTURE(function);
    REQUIRE(cuda.count(function) == 1);
    CHECK(cuda[function] == place);
  }
}
