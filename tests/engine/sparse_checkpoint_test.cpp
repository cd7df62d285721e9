#include "engine/checkpoint/sparse_checkpoint.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include <fstream>
#include <random>

using namespace frost;

namespace {

/// A state of odd sizes with a masked weight of each float type, dense tensors between them, and an empty and a full mask.
SafetensorsFile example() {
  std::mt19937 random(5);
  SafetensorsFile file;
  const auto masked = [&](const std::string& name, DType type, std::vector<std::int64_t> shape, double density) {
    std::int64_t count = 1;
    for (const std::int64_t d : shape) count *= d;
    std::vector<float> values(static_cast<std::size_t>(count));
    HostTensor mask{DType::u8, shape, std::vector<std::byte>(values.size())};
    for (std::size_t i = 0; i < values.size(); ++i) {
      const bool stays = std::uniform_real_distribution(0.0, 1.0)(random) < density;
      values[i] = stays ? std::uniform_real_distribution(-2.0f, 2.0f)(random) : 0.0f;
      mask.bytes[i] = std::byte{stays};
    }
    file.tensors.add(name, HostTensor::from_f32(shape, values).as(type));
    file.tensors.add(name + ".mask", mask);
  };
  masked("a.weight", DType::f32, {5, 3, 3, 3}, 0.7);
  file.tensors.add("a.bias", HostTensor::from_f32({5}, std::vector<float>{1, 2, 3, 4, 0}));
  masked("b.weight", DType::f16, {7, 5, 1, 1}, 0.5);
  masked("c.weight", DType::bf16, {16, 8}, 0.0);
  masked("d.weight", DType::f32, {3, 3}, 1.0);
  file.tensors.add("n", HostTensor::from_i64({}, {{7}}));
  file.metadata = {{"names", "[\"x\"]"}};
  return file;
}

bool same(const SafetensorsFile& a, const SafetensorsFile& b) {
  return a.metadata == b.metadata && a.tensors.size() == b.tensors.size() &&
         std::equal(a.tensors.begin(), a.tensors.end(), b.tensors.begin());
}

std::string refusal(const SafetensorsFile& file) {
  try {
    dense_form(file);
    return "accepted";
  } catch (const Error& error) {
    return error.what();
  }
}

/// The file with one tensor exchanged.
SafetensorsFile with(const SafetensorsFile& file, const std::string& name, const HostTensor* tensor) {
  SafetensorsFile out{.tensors = {}, .metadata = file.metadata};
  for (const auto& [key, value] : file.tensors) {
    if (key != name) out.tensors.add(key, value);
    if (key == name && tensor) out.tensors.add(key, *tensor);
  }
  return out;
}

struct Folder {
  std::filesystem::path path;
  Folder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "frost-sparse-XXXXXX").string();
    path = mkdtemp(pattern.data());
  }
  ~Folder() { std::filesystem::remove_all(path); }
};

}  // namespace

TEST_CASE("packing loses nothing, and the file says what it holds") {
  const SafetensorsFile dense = example();
  const SafetensorsFile file = sparse_form(dense);
  CHECK(file.metadata.at("frost.packed") ==
        R"({"a.weight":[5,3,3,3],"b.weight":[7,5,1,1],"c.weight":[16,8],"d.weight":[3,3]})");
  CHECK_FALSE(file.tensors.contains("a.weight"));
  CHECK_FALSE(file.tensors.contains("a.weight.mask"));
  CHECK(file.tensors.at("a.weight.bits").count() == 17);  // 135 elements
  CHECK(file.tensors.at("c.weight.values").count() == 0);
  CHECK(file.tensors.at("d.weight.values").count() == 9);
  CHECK(file.tensors.at("a.bias") == dense.tensors.at("a.bias"));
  CHECK(same(dense_form(file), dense));

  const Folder folder;
  write_checkpoint(folder.path / "x.safetensors", dense.tensors, dense.metadata);
  CHECK(same(read_checkpoint(folder.path / "x.safetensors"), dense));
  CHECK(without_masks(dense.tensors).size() == 6);

  SafetensorsFile plain;
  plain.tensors.add("x.values", HostTensor::from_f32({2}, std::vector<float>{1, 2}));  // only a name
  CHECK(same(dense_form(sparse_form(plain)), plain));
}

TEST_CASE("a masked value is +0; any other is a mistake of ours that must not be lost") {
  SafetensorsFile file;
  file.tensors.add("w", HostTensor::from_f32({3}, std::vector<float>{-0.0f, 5, 0}));
  file.tensors.add("w.mask", {DType::u8, {3}, {std::byte{0}, std::byte{1}, std::byte{1}}});
  const std::vector<float> back = dense_form(sparse_form(file)).tensors.at("w").to_f32();
  CHECK((back == std::vector<float>{0, 5, 0}));
  CHECK_FALSE(std::signbit(back[0]));
  CHECK((dense_form(sparse_form(file)).tensors.at("w.mask") == file.tensors.at("w.mask")));  // a zero may well stay
  SafetensorsFile wrong;
  wrong.tensors.add("w", HostTensor::from_f32({2}, std::vector<float>{1, 1}));
  wrong.tensors.add("w.mask", {DType::u8, {2}, {std::byte{0}, std::byte{1}}});
  CHECK_THROWS_WITH_AS(sparse_form(wrong), "w: element 0 is masked but not zero", Error);
}

TEST_CASE("size: what is zero costs a bit") {
  std::vector<float> values(100000);
  HostTensor mask{DType::u8, {100000}, std::vector<std::byte>(values.size())};
  for (std::size_t i = 0; i < values.size(); ++i)
    if (i % 10 >= 3) values[i] = 1, mask.bytes[i] = std::byte{1};
  for (const DType type : {DType::f32, DType::f16}) {
    SafetensorsFile file;
    file.tensors.add("w", HostTensor::from_f32({100000}, values).as(type));
    file.tensors.add("w.mask", mask);
    const Folder folder;
    write_checkpoint(folder.path / "packed", file.tensors);
    write_checkpoint(folder.path / "dense", without_masks(file.tensors));
    const auto size = [&](const char* name) { return static_cast<double>(std::filesystem::file_size(folder.path / name)); };
    CHECK(size("packed") / size("dense") ==
          doctest::Approx(0.7 + 1.0 / (8.0 * static_cast<double>(size_of(type)))).epsilon(0.002));
  }
}

TEST_CASE("corrupt files are refused in one line") {
  const SafetensorsFile file = sparse_form(example());
  const auto say = [&](const char* metadata) {
    SafetensorsFile changed = file;
    changed.metadata["frost.packed"] = metadata;
    return refusal(changed);
  };
  CHECK(say("{").starts_with("metadata frost.packed cannot be read: {"));
  CHECK(say("[1]").starts_with("metadata frost.packed cannot be read"));
  CHECK(say(R"({"zzz":[1]})") == "sparse tensor zzz: no zzz.values");
  CHECK(say(R"({"a.weight":5})") == "sparse tensor a.weight: its shape is not a list of dimensions");
  CHECK(say(R"({"a.weight":[-5]})") == "sparse tensor a.weight: a dimension is not a natural number");
  CHECK(say(R"({"a.weight":["5"]})") == "sparse tensor a.weight: a dimension is not a natural number");
  CHECK(say(R"({"a.weight":[9223372036854775807,3]})") == "sparse tensor a.weight: too many elements");
  CHECK(say(R"({"a.weight":[9223372036854775807]})") ==
        "sparse tensor a.weight: 17 bytes of bits for 9223372036854775807 elements");
  CHECK(say(R"({"a.weight":[5,3,3,4]})") == "sparse tensor a.weight: 17 bytes of bits for 180 elements");

  HostTensor bits = file.tensors.at("a.weight.bits");
  bits.bytes[0] ^= std::byte{1};
  CHECK(refusal(with(file, "a.weight.bits", &bits)).find(" bits are set, but ") != std::string::npos);
  bits = file.tensors.at("a.weight.bits");
  bits.bytes.back() |= std::byte{0x80};
  CHECK(refusal(with(file, "a.weight.bits", &bits)) == "sparse tensor a.weight: bits after the last element");
  bits = HostTensor::from_f32({17}, std::vector<float>(17));
  CHECK(refusal(with(file, "a.weight.bits", &bits)) == "sparse tensor a.weight: 68 bytes of bits for 135 elements");
  CHECK(refusal(with(file, "a.weight.bits", nullptr)) == "sparse tensor a.weight: no a.weight.bits");
  HostTensor values = file.tensors.at("a.weight.values");
  values.bytes.resize(values.bytes.size() - 4), --values.shape[0];
  CHECK(refusal(with(file, "a.weight.values", &values)).find(" bits are set, but ") != std::string::npos);
  HostTensor squared = file.tensors.at("b.weight.values");
  squared.shape = {squared.shape[0], 1};
  CHECK(refusal(with(file, "b.weight.values", &squared)).find(" bits are set, but ") != std::string::npos);
}

TEST_CASE("truncated and flipped files: an error with the file's name, or the same structure, never a crash") {
  const Folder folder;
  const std::filesystem::path path = folder.path / "x.safetensors";
  const SafetensorsFile dense = example();
  write_checkpoint(path, dense.tensors, dense.metadata);
  std::string bytes;
  {
    std::ifstream in(path, std::ios::binary);
    bytes.assign(std::istreambuf_iterator<char>(in), {});
  }
  const auto attempt = [&](const std::string& content) {
    std::ofstream(path, std::ios::binary) << content;
    try {
      read_checkpoint(path);
      return true;
    } catch (const Error& error) {
      const std::string text = error.what();
      CHECK(text.starts_with(path.string() + ": "));
      CHECK(text.find('\n') == std::string::npos);
      return false;
    }
  };
  for (std::size_t length = 0; length < bytes.size(); length += 37) CHECK_FALSE(attempt(bytes.substr(0, length)));
  std::mt19937 random(11);
  int refused = 0;
  for (int i = 0; i < 400; ++i) {
    std::string changed = bytes;
    changed[random() % changed.size()] ^= static_cast<char>(1 << random() % 8);
    refused += !attempt(changed);
  }
  CHECK(refused > 100);  // the header, and every bit of a mask
}
