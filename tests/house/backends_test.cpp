#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <regex>
#include <string>

namespace fs = std::filesystem;

namespace {

/// Where each member function of `type` is defined: "max_pool_forward" -> "pool".
std::map<std::string, std::string> places(const fs::path& folder, const std::string& type) {
  std::map<std::string, std::string> found;
  const std::regex definition("\\b" + type + "::(\\w+)\\(");
  for (const auto& file : fs::directory_iterator(folder)) {
    if (const auto end = file.path().extension(); end != ".cpp" && end != ".cu") continue;
    std::ifstream in(file.path());
    const std::string text{std::istreambuf_iterator<char>(in), {}};
    std::string stem = file.path().stem().string();
    if (stem == "cpu_backend" || stem == "cuda_backend") stem = "backend";
    for (std::sregex_iterator it(text.begin(), text.end(), definition), last; it != last; ++it) found[(*it)[1]] = stem;
  }
  return found;
}

}  // namespace

TEST_CASE("house: every primitive stands in files of the same name for the CPU and for CUDA") {
  const fs::path kernels = fs::path(FROST_SOURCE_DIR) / "kernels";
  auto cpu = places(kernels / "cpu", "CpuBackend"), cuda = places(kernels / "cuda", "CudaBackend");
  CHECK(cpu.size() > 40);
  cpu.erase("CpuBackend");
  for (const auto& [function, place] : cpu) {
    CAPTURE(function);
    REQUIRE(cuda.count(function) == 1);
    CHECK(cuda[function] == place);
  }
}
