#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/source_dir.h"

/// Reads the reference numbers. Written apart from engine/checkpoint on purpose: a test should not trust what it tests.
namespace frost::golden {

struct Tensor {
  std::string dtype;
  std::vector<std::int64_t> shape;
  std::vector<std::byte> bytes;
  std::int64_t count() const {
    std::int64_t n = 1;
    for (auto d : shape) n *= d;
    return n;
  }
  template <class T>
  std::vector<T> values() const {
    std::vector<T> out(static_cast<std::size_t>(count()));
    if (bytes.size() != out.size() * sizeof(T)) throw std::runtime_error("golden: element size of " + dtype);
    if (!out.empty()) std::memcpy(out.data(), bytes.data(), bytes.size());
    return out;
  }
  std::vector<float> f32() const { return values<float>(); }
};

struct File {
  std::map<std::string, Tensor> tensors;
  std::map<std::string, std::string> facts;
  bool has(const std::string& name) const { return tensors.count(name) != 0; }
  const Tensor& at(const std::string& name) const {
    const auto it = tensors.find(name);
    if (it == tensors.end()) throw std::runtime_error("golden: no tensor " + name);
    return it->second;
  }
  const std::string& fact(const std::string& name) const { return facts.at(name); }
  nlohmann::json fact_json(const std::string& name) const { return nlohmann::json::parse(facts.at(name)); }
};

/// The reference numbers: this folder, or FROST_GOLDEN_DIR where the tests run without their sources.
inline std::filesystem::path dir() {
  if (const char* set = std::getenv("FROST_GOLDEN_DIR")) return set;
  return frost::testing::source_dir() / "tests" / "golden";
}

/// The folder with photographs and published weights, which are not ours to give away, or empty where it is missing.
inline std::filesystem::path shared_dir() {
  if (const char* set = std::getenv("FROST_SHARED_DIR")) return set;
  const std::filesystem::path beside = frost::testing::source_dir() / ".." / "shared";
  return std::filesystem::exists(beside) ? std::filesystem::weakly_canonical(beside) : std::filesystem::path();
}

/// True where ../shared/<relative> exists; otherwise prints that the test is skipped. The last line of `make test` counts
/// these lines.
inline bool have(const std::string& relative) {
  const auto folder = shared_dir();
  if (!folder.empty() && std::filesystem::exists(folder / relative)) return true;
  std::cout << "SKIPPED: needs ../shared/" << relative << std::endl;
  return false;
}

inline File load(const std::string& name) {
  const auto path = dir() / (name + ".safetensors");
  std::ifstream in(path, std::ios::binary);
  if (!in) throw std::runtime_error("golden: cannot open " + path.string());
  std::uint64_t length = 0;
  in.read(reinterpret_cast<char*>(&length), 8);
  std::string header(length, ' ');
  in.read(header.data(), static_cast<std::streamsize>(length));
  const auto json = nlohmann::json::parse(header);
  const std::vector<char> data((std::istreambuf_iterator<char>(in)), {});
  File file;
  for (const auto& [key, value] : json.items()) {
    if (key == "__metadata__") {
      for (const auto& [k, v] : value.items()) file.facts[k] = v.get<std::string>();
      continue;
    }
    Tensor t;
    t.dtype = value["dtype"];
    t.shape = value["shape"].get<std::vector<std::int64_t>>();
    const auto begin = value["data_offsets"][0].get<std::size_t>(), end = value["data_offsets"][1].get<std::size_t>();
    t.bytes.resize(end - begin);
    if (end > begin) std::memcpy(t.bytes.data(), data.data() + begin, end - begin);
    file.tensors[key] = std::move(t);
  }
  return file;
}

/// golden/README.md "Deterministic fill": the value stream of a name; u in [0, 1).
class Fill {
 public:
  explicit Fill(const std::string& name) {
    for (const char ch : name) h_ = (h_ ^ static_cast<unsigned char>(ch)) * 0x100000001b3ULL;
  }
  double u(std::uint64_t i) const {
    std::uint64_t z = h_ + (i + 1) * 0x9e3779b97f4a7c15ULL;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    z = z ^ (z >> 31);
    return static_cast<double>(z >> 11) * 0x1p-53;
  }

 private:
  std::uint64_t h_ = 0xcbf29ce484222325ULL;
};

/// NCHW values to NHWC (dims n, c, h, w), and back.
template <class T>
std::vector<T> nhwc(const std::vector<T>& x, std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t w) {
  std::vector<T> y(x.size());
  for (std::int64_t i = 0; i < n; ++i)
    for (std::int64_t k = 0; k < c; ++k)
      for (std::int64_t p = 0; p < h * w; ++p)
        y[static_cast<std::size_t>((i * h * w + p) * c + k)] = x[static_cast<std::size_t>((i * c + k) * h * w + p)];
  return y;
}
template <class T>
std::vector<T> nchw(const std::vector<T>& x, std::int64_t n, std::int64_t h, std::int64_t w, std::int64_t c) {
  std::vector<T> y(x.size());
  for (std::int64_t i = 0; i < n; ++i)
    for (std::int64_t k = 0; k < c; ++k)
      for (std::int64_t p = 0; p < h * w; ++p)
        y[static_cast<std::size_t>((i * c + k) * h * w + p)] = x[static_cast<std::size_t>((i * h * w + p) * c + k)];
  return y;
}

/// Largest |a - b| over the largest |b|: an error relative to the tensor's scale.
template <class A, class B>
double relative_error(const A& a, const B& b) {
  if (a.size() != b.size()) return 1e30;
  double worst = 0, scale = 1e-30;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double d = std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
    if (std::isnan(d)) return d;
    worst = std::max(worst, d);
    scale = std::max(scale, std::abs(static_cast<double>(b[i])));
  }
  return worst / scale;
}

}  // namespace frost::golden
