#include "engine/checkpoint/safetensors.h"

#include <doctest/doctest.h>
#include <sys/resource.h>

#include <csignal>
#include <limits>
#include <random>

#include "tests/engine/torch_builder.h"
#include "tests/golden/golden.h"

using namespace frost;
using namespace frost::build;

namespace {
const Folder folder;

std::string file_of(const std::string& header, const std::string& data = "") {
  return little<std::uint64_t>(header.size()) + header + data;
}
std::string refusal(const std::string& bytes) {
  const auto path = folder.write("bad.safetensors", bytes);
  return error_of([&] { read_safetensors(path); });
}
std::string refusal(const std::string& header, const std::string& data) { return refusal(file_of(header, data)); }

StateDict sample() {
  StateDict s;
  s.add("z.weight", HostTensor::from_f32({2, 3}, std::vector<float>{1, 2, 3, 4, 5, -6.5f}));
  s.add("empty", HostTensor{DType::f16, {0, 4}, {}});
  s.add("a.half", HostTensor::from_f32({2}, std::vector<float>{0.5f, -2}).as(DType::f16));
  s.add("a.brain", HostTensor::from_f32({1}, std::vector<float>{0.25f}).as(DType::bf16));
  s.add("counter", HostTensor::from_i64({}, std::vector<std::int64_t>{-42}));
  s.add("bytes", HostTensor{DType::u8, {3}, {std::byte{1}, std::byte{2}, std::byte{255}}});
  return s;
}
}  // namespace

TEST_CASE("what is written is read: order, types, metadata") {
  const auto path = folder / "a.safetensors";
  const Metadata metadata = {{"names", "[\"caf\xC3\xA9\"]"}, {"yaml", "a: 1\nb: \"q\"\t"}, {"", ""}};
  const auto written = sample();
  write_safetensors(path, written, metadata);
  const auto file = read_safetensors(path);
  CHECK(std::equal(file.tensors.begin(), file.tensors.end(), written.begin(), written.end()));
  CHECK(file.metadata == metadata);
  CHECK(file.tensors.at("counter").to_f64() == std::vector<double>{-42});
  CHECK(file.tensors.at("a.half").to_f32() == std::vector<float>{0.5f, -2});
  CHECK(file.tensors.at("bytes").to_f32()[2] == 255);
  CHECK(file.tensors.find("nothing") == nullptr);
  CHECK(has(error_of([&] { file.tensors.at("nothing"); }), "no tensor nothing"));
  CHECK(file.tensors.below("a.").size() == 2);
  CHECK(file.tensors.below("a.").contains("half"));
  std::uint64_t length = 0;
  const auto bytes = contents(path);
  std::memcpy(&length, bytes.data(), 8);
  CHECK(length % 8 == 0);  // the data begins aligned
  write_safetensors(path, {}, {});
  CHECK(read_safetensors(path).tensors.empty());
}

TEST_CASE("NaN and infinity are seen in every floating type") {
  for (const DType type : {DType::f32, DType::f16, DType::bf16})
    for (const float bad : {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
      CHECK(HostTensor::from_f32({2}, std::vector<float>{65504, -0.f}).as(type).all_finite());
      CHECK(!HostTensor::from_f32({2}, std::vector<float>{1, bad}).as(type).all_finite());
    }
}

TEST_CASE("the reference files agree with their own reader") {
  for (const char* name : {"ops_conv2d", "eval_nms", "model_yolov5n", "vision_mosaic", "train_sgd"}) {
    const auto expected = golden::load(name);
    const auto file = read_safetensors(golden::dir() / (std::string(name) + ".safetensors"));
    CHECK(file.metadata == expected.facts);
    REQUIRE(file.tensors.size() == expected.tensors.size());
    for (const auto& [key, tensor] : file.tensors) {
      CHECK(tensor.shape == expected.at(key).shape);
      CHECK(tensor.bytes == expected.at(key).bytes);
    }
  }
}

TEST_CASE("types without a DType are widened") {
  const auto path = folder.write(
      "wide.safetensors",
      file_of(R"({"a":{"dtype":"I16","shape":[2],"data_offsets":[0,4]},)"
              R"("b":{"dtype":"I8","shape":[1],"data_offsets":[4,5]},"c":{"dtype":"U16","shape":[1],"data_offsets":[5,7]},)"
              R"("d":{"dtype":"U32","shape":[1],"data_offsets":[7,11]},)"
              R"("e":{"dtype":"BOOL","shape":[1],"data_offsets":[11,12]}}  )",
              little<std::int16_t>(-3) + little<std::int16_t>(7) + "\xFE" + little<std::uint16_t>(65535) +
                  little<std::uint32_t>(4294967295u) + "\x01"));
  const auto t = read_safetensors(path).tensors;
  CHECK(t.at("a").dtype == DType::i32);
  CHECK(t.at("a").to_f64() == std::vector<double>{-3, 7});
  CHECK(t.at("b").to_f64() == std::vector<double>{-2});
  CHECK(t.at("c").to_f64() == std::vector<double>{65535});
  CHECK(t.at("d").to_f64() == std::vector<double>{4294967295.0});
  CHECK(t.at("e").to_f64() == std::vector<double>{1});
}

TEST_CASE("everything the format forbids is refused, with the file and the cause") {
  const auto one = [](const char* dtype, const char* shape, const char* offsets) {
    return std::string(R"({"a":{"dtype":")") + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}}";
  };
  const std::string four(4, 'x'), eight(8, 'x');
  const std::string a = R"("a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]})";
  const std::vector<std::pair<std::string, const char*>> cases = {
      {refusal(""), "the file is empty"},
      {refusal("1234567"), "shorter than its 8-byte length"},
      {refusal(little<std::uint64_t>(1) + "{"), "a header of 1 bytes"},
      {refusal(little<std::uint64_t>(100'000'001) + "{}"), "a header of 100000001 bytes"},
      {refusal(little<std::uint64_t>(~0ull) + "{}"), "a header of 18446744073709551615 bytes"},
      {refusal(little<std::uint64_t>(3) + "{}"), "truncated"},
      {refusal(file_of(" {}")), "does not start with '{'"},
      {refusal(file_of("[]")), "does not start with '{'"},
      {refusal(file_of("{}x")), "not JSON"},
      {refusal(file_of("{\"a\":\"\xFF\"}")), "not JSON"},
      {refusal(file_of("{\"a\":[[[[[[[[1]]]]]]]]}")), "nested too deeply"},
      {refusal(file_of("{" + a + "," + a + "}", four)), "the key a occurs twice"},
      {refusal(file_of(R"({"__metadata__":{"k":"1","k":"2"}})")), "the key k occurs twice"},
      {refusal(file_of(R"({"__metadata__":{"k":1}})")), "k is not text"},
      {refusal(file_of(R"({"__metadata__":"k"})")), "__metadata__ is not a map"},
      {refusal(file_of(R"({"a":4})")), "needs dtype, shape and data_offsets"},
      {refusal(file_of(R"({"a":{"dtype":"F32","shape":[1]}})")), "needs dtype, shape and data_offsets"},
      {refusal(one("F33", "[1]", "[0,4]"), four), "unsupported dtype F33"},
      {refusal(one("U64", "[1]", "[0,8]"), eight), "unsupported dtype U64"},
      {refusal(one("F8_E4M3", "[4]", "[0,4]"), four), "unsupported dtype F8_E4M3"},
      {refusal(one("F32", "[-1]", "[0,4]"), four), "a dimension is not a non-negative integer"},
      {refusal(one("F32", "[1.0]", "[0,4]"), four), "a dimension is not a non-negative integer"},
      {refusal(one("F32", "1", "[0,4]"), four), "shape is not a list"},
      {refusal(one("F32", "[1]", "[0,4,8]"), four), "data_offsets are not"},
      {refusal(one("F32", "[1]", "[4,0]"), four), "ends before it begins"},
      {refusal(one("F32", "[2]", "[0,4]"), four), "needs 8 bytes, data_offsets give 4"},
      {refusal(one("F32", "[4294967296,4294967296]", "[0,4]"), four), "too many elements"},
      {refusal(one("F32", "[4611686018427387904]", "[0,0]"), ""), "too many elements"},
      {refusal(one("F32", "[18446744073709551615]", "[0,4]"), four), "too many elements"},
      {refusal(one("F32", "[2]", "[0,8]"), four), "truncated: tensor a"},
      {refusal(one("F32", "[1]", "[0,4]"), eight), "4 bytes after the last tensor"},
      {refusal(one("F32", "[1]", "[4,8]"), eight), "a gap of 4 bytes before tensor a"},
      {refusal("{" + a + R"(,"b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}})", eight), "tensor b overlaps"},
      {refusal("{" + a + R"(,"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", four), "tensor b overlaps"},
  };
  for (const auto& [message, part] : cases) {
    CAPTURE(part);
    CAPTURE(message);
    CHECK(has(message, part));
    CHECK(message.starts_with((folder / "bad.safetensors").string() + ": "));
    CHECK(!has(message, "\n"));
  }
  CHECK(has(error_of([] { read_safetensors(folder / "none.safetensors"); }), "No such file"));
}

TEST_CASE("cut anywhere: refused; spoiled anywhere: refused or read, never a crash") {
  const auto path = folder / "whole.safetensors";
  write_safetensors(path, sample(), {{"k", "v"}});
  const auto whole = contents(path);
  for (std::size_t length = 0; length < whole.size(); ++length) CHECK(!refusal(whole.substr(0, length)).empty());
  std::mt19937 random(1);
  for (int i = 0; i < 5000; ++i) {
    auto spoiled = whole;
    spoiled[random() % spoiled.size()] = static_cast<char>(random());
    refusal(spoiled);  // the sanitizers watch
  }
}

TEST_CASE("a failed write keeps the old file") {
  const auto path = folder / "keep.safetensors";
  write_safetensors(path, sample());
  const auto before = contents(path);
  StateDict large;
  large.add("w", HostTensor::from_f32({100'000}, std::vector<float>(100'000)));
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit old{};
  getrlimit(RLIMIT_FSIZE, &old);
  const rlimit small{100'000, old.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  const auto message = error_of([&] { write_safetensors(path, large); });
  setrlimit(RLIMIT_FSIZE, &old);
  CHECK(message == "cannot write " + path.string() + ": File too large");
  CHECK(contents(path) == before);
  CHECK(has(error_of([&] { write_safetensors(path, sample(), {{"k", "\xFF"}}); }), "not UTF-8"));
  CHECK(contents(path) == before);
  StateDict twice;
  twice.add("w", {});
  CHECK(has(error_of([&] { twice.add("w", {}); }), "tensor w occurs twice"));
}
