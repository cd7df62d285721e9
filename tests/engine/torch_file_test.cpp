#include "engine/checkpoint/torch_file.h"

#include <doctest/doctest.h>

#include <numeric>
#include <random>

#include "tests/engine/torch_builder.h"

using namespace frost;
using namespace frost::build;

namespace {
const Folder folder;

const std::string kSix = raw<float>({1, 2, 3, 4, 5, 6});
std::string six(std::int32_t offset, const std::vector<std::int32_t>& size, const std::vector<std::int32_t>& stride) {
  return tensor(storage("FloatStorage", "0", 6), offset, size, stride);
}
StateDict load(const std::string& bytes) { return TorchFile(folder.write("file.pth", bytes)).state_dict(); }
std::string refusal(const std::string& bytes) {
  return error_of([&] { load(bytes); });
}
using Floats = std::vector<float>;

std::vector<ZipEntry> good() { return torch_entries(pickled(ordered({{"w", six(0, {2, 3}, {3, 1})}})), {{"0", kSix}}); }
std::string refusal(const std::function<void(std::vector<ZipEntry>&)>& spoil) {
  auto entries = good();
  spoil(entries);
  return refusal(zipped(entries));
}

/// The container before torch 1.6.
struct Legacy {
  std::string object = pickled(ordered({{"w", legacy_tensor("k1", 4, none())}, {"v", legacy_tensor("k2", 2, none())}}));
  std::string magic = "\x80\x02\x8A\x0A\x6C\xFC\x9C\x46\xF9\x20\x6A\xA8\x50\x19.";
  std::string protocol = pickled(integer(1001));
  std::string system = pickled(dict({{"protocol_version", integer(1001)}, {"little_endian", boolean(true)}}));
  std::string keys = pickled(list({text("k1"), text("k2")}));
  std::string data = little<std::int64_t>(4) + raw<float>({1, 2, 3, 4}) + little<std::int64_t>(2) + raw<float>({5, 6});
  std::string file() const { return magic + protocol + system + object + keys + data; }

  static std::string legacy_tensor(const char* key, std::int32_t count, const std::string& view, std::int32_t size = 2) {
    const auto id =
        "(" + text("storage") + global("torch", "FloatStorage") + text(key) + text("cuda:0") + integer(count) + view + "tQ";
    return tensor(id, 0, {size}, {1});
  }
};
}  // namespace

TEST_CASE("tensors of all layouts become row-major") {
  const auto i16 = tensor(storage("ShortStorage", "1", 2), 0, {2}, {1}),
             i8 = tensor(storage("CharStorage", "2", 2), 1, {}, {});
  const auto f16 = tensor(storage("HalfStorage", "3", 2), 0, {2}, {1}),
             bf16 = tensor(storage("BFloat16Storage", "4", 1), 0, {1}, {1});
  const auto empty = tensor(storage("FloatStorage", "5", 0), 0, {0}, {1}),
             flag = tensor(storage("BoolStorage", "6", 2), 0, {2}, {1});
  const auto pickle = pickled(ordered({{"whole", six(0, {2, 3}, {3, 1})},
                                       {"transposed", six(0, {3, 2}, {1, 3})},
                                       {"view", six(2, {2}, {1})},
                                       {"every", six(1, {3}, {2})},
                                       {"expanded", six(3, {2, 2}, {0, 1})},
                                       {"scalar", six(5, {}, {})},
                                       {"one", six(0, {1, 6}, {77, 1})},
                                       {"i16", i16},
                                       {"i8", i8},
                                       {"f16", f16},
                                       {"bf16", bf16},
                                       {"empty", empty},
                                       {"flag", flag}}) +
                              "}" + text("_metadata") + ordered({}) + "sb");
  const auto s = load(torch_zip(pickle, {{"0", kSix},
                                         {"1", raw<std::int16_t>({-5, 300})},
                                         {"2", raw<std::int8_t>({9, -7})},
                                         {"3", raw<std::uint16_t>({0x3C00, 0xC000})},
                                         {"4", raw<std::uint16_t>({0x3F80})},
                                         {"5", ""},
                                         {"6", std::string("\x01\x00", 2)}}));
  CHECK(s.at("whole").to_f32() == Floats{1, 2, 3, 4, 5, 6});
  CHECK(s.at("transposed").to_f32() == Floats{1, 4, 2, 5, 3, 6});
  CHECK(s.at("transposed").shape == std::vector<std::int64_t>{3, 2});
  CHECK(s.at("view").to_f32() == Floats{3, 4});
  CHECK(s.at("every").to_f32() == Floats{2, 4, 6});
  CHECK(s.at("expanded").to_f32() == Floats{4, 5, 4, 5});
  CHECK(s.at("scalar").to_f32() == Floats{6});
  CHECK(s.at("scalar").shape.empty());
  CHECK(s.at("one").to_f32() == Floats{1, 2, 3, 4, 5, 6});
  CHECK(s.at("i16").dtype == DType::i32);
  CHECK(s.at("i16").to_f32() == Floats{-5, 300});
  CHECK(s.at("i8").to_f32() == Floats{-7});
  CHECK(s.at("f16").dtype == DType::f16);
  CHECK(s.at("f16").to_f32() == Floats{1, -2});
  CHECK(s.at("bf16").to_f32() == Floats{1});
  CHECK(s.at("empty").count() == 0);
  CHECK(s.at("flag").to_f32() == Floats{1, 0});
  CHECK(s.begin()->first == "whole");
}

TEST_CASE("where a state dict may lie") {
  const auto w = six(0, {6}, {1});
  const auto names = [&](const std::string& root) {
    std::string out;
    for (const auto& [name, t] : load(torch_zip(pickled(root), {{"0", kSix}}))) out += name + " ";
    return out;
  };
  CHECK(names(dict({{"a", w}})) == "a ");
  CHECK(names(ordered({{"module.a", w}, {"module.b.c", w}})) == "a b.c ");
  CHECK(names(ordered({{"module.a", w}, {"b", w}})) == "module.a b ");
  CHECK(names(dict({{"epoch", integer(3)}, {"state_dict", ordered({{"a", w}})}})) == "a ");
  CHECK(names(dict({{"model", ordered({{"a", reduce(global("torch._utils", "_rebuild_parameter"),
                                                    {w, boolean(true), ordered({})})}})}})) == "a ");
  const auto module = object(
      "torch.nn.modules.linear", "Linear",
      {{"_parameters", ordered({{"weight", w}, {"bias", none()}})}, {"_buffers", ordered({})}, {"_modules", ordered({})}});
  CHECK(names(dict({{"model", module}})) == "weight ");
  CHECK(names(dict({{"state_dict", ordered({{"a", w}})}, {"model", ordered({{"b", w}})}, {"ema", none()}})) == "b ");
  CHECK(names(dict({{"model", module}, {"ema", ordered({{"c", w}})}})) == "c ");
  CHECK(has(refusal(torch_zip(pickled(dict({{"epoch", integer(1)}})), {})), "file.pth: a int instead of a tensor at epoch"));
  CHECK(has(refusal(torch_zip(pickled(dict({{"w", os_system()}})), {})),
            "refused global posix.system instead of a tensor at w"));
  CHECK(has(refusal(torch_zip(pickled(list({})), {})), "a list instead of a state dict at the root"));
}

TEST_CASE("modules nested without end are refused") {
  // a module that is its own child, by way of the memo
  const auto self = global("torch.nn", "M") + ")\x81q\x01" + dict({{"_modules", ordered({{"a", "h\x01"}})}}) + "b";
  CHECK(has(refusal(torch_zip(pickled(dict({{"model", self}})), {})), "modules nested without end at a.a"));
  // each module holds the next one twice: few bytes, 2^40 paths
  std::string chain = object("torch.nn", "M", {}) + "q\x01";
  std::string body = chain + "0";
  for (int i = 0; i < 40; ++i)
    body += object("torch.nn", "M", {{"_modules", ordered({{"a", "h\x01"}, {"b", "h\x01"}})}}) +
            "q\x01"
            "0";
  CHECK(has(refusal(torch_zip(pickled(body + dict({{"model", "h\x01"}})), {})), "asks for more than 256 MiB"));
}

TEST_CASE("a small file cannot ask for endless memory") {
  CHECK(has(refusal(torch_zip(pickled(dict({{"w", six(0, {60'000, 60'000}, {0, 0})}})), {{"0", kSix}})),
            "w: asks for more than 256 MiB"));
  // 2^62 elements of 8 bits become 2^64 bytes
  CHECK(has(
      refusal(torch_zip(pickled(dict({{"w", tensor(storage("CharStorage", "0", 6), 0, {1 << 30, 1 << 30, 4}, {0, 0, 0})}})),
                        {{"0", "sixsix"}})),
      "w: asks for more than 256 MiB"));
  // each below the bound, all together above it: eight views, one view under eight names
  const std::string view = six(0, {1 << 24}, {0});
  std::string many = "}(", same = "}(" + text("v") + view + "q\x01";
  for (int i = 0; i < 8; ++i) {
    many += text("w" + std::to_string(i)) + view;
    same += text("w" + std::to_string(i)) + "h\x01";
  }
  CHECK(has(refusal(torch_zip(pickled(many + "u"), {{"0", kSix}})), "asks for more than 256 MiB"));
  CHECK(has(refusal(torch_zip(pickled(same + "u"), {{"0", kSix}})), "asks for more than 256 MiB"));
}

TEST_CASE("names are bounded, alone and nested") {
  const std::string name(60'000, 'n');
  std::string body = text(name) + "q\x02" + "0" + object("torch.nn", "M", {}) + "q\x01" + "0";
  for (int i = 0; i < 900; ++i)
    body += object("torch.nn", "M", {{"_modules", "}h\x02h\x01s"}}) +
            "q\x01"
            "0";
  const std::string told = refusal(torch_zip(pickled(body + dict({{"model", "h\x01"}})), {}));
  CHECK(has(told, "a name of 60000 bytes"));
  CHECK(told.size() < 400);
}

TEST_CASE("a deflated entry cannot claim more than its bytes can hold") {
  std::vector<ZipEntry> entries = torch_entries(pickled(dict({})), {});
  entries[0].deflated = true;
  entries[0].size_error = 1 << 30;
  CHECK(has(refusal(zipped(entries)), "deflated ones cannot hold them"));
}

TEST_CASE("a storage is read once for all of its views") {
  const std::string data(std::size_t{32} << 20, '\1');
  std::string body = "}(";
  for (int i = 0; i < 4000; ++i)
    body += text("w" + std::to_string(i)) + tensor(storage("FloatStorage", "0", 8 << 20), i, {2}, {1});
  const StateDict state = load(torch_zip(pickled(body + "u"), {{"0", data}}));  // 128 GB, were it read for each
  CHECK(state.size() == 4000);
  CHECK(state.at("w3999").bytes.size() == 8);
}

TEST_CASE("zip files: what is accepted") {
  CHECK(load(zipped(good())).at("w").to_f32()[5] == 6);
  auto deflated = good();
  for (auto& e : deflated) e.deflated = true;
  CHECK(load(zipped(deflated)).at("w").to_f32()[5] == 6);
  auto other_root = good();
  for (auto& e : other_root) e.name.replace(0, 7, "best");
  other_root.push_back({"best/byteorder", "little"});
  other_root.push_back({"best/.data/serialization_id", "0123"});
  CHECK(load(zipped(other_root)).size() == 1);
}

TEST_CASE("zip files: what is refused") {
  using Entries = std::vector<ZipEntry>;
  const std::vector<std::pair<std::string, const char*>> cases = {
      {refusal([](Entries& e) { e[1].crc_error = 1; }), "entry archive/data/0: corrupt: the checksum differs"},
      {refusal([](Entries& e) { e[0].crc_error = 1; }), "entry archive/data.pkl: corrupt"},
      {refusal([](Entries& e) { e[1].deflated = true, e[1].crc_error = 1; }), "corrupt"},
      {refusal([](Entries& e) { e[1].deflated = true, e[1].size_error = 4; }), "28 bytes, its tensors need 24"},
      {refusal([](Entries& e) { e[1].data.pop_back(); }), "storage 0 has 23 bytes, its tensors need 24"},
      {refusal([](Entries& e) { e[1].size_error = 4; }), "zip: "},
      {refusal([](Entries& e) { e.erase(e.begin() + 1); }), "storage 0 is missing"},
      {refusal([](Entries& e) { e[0].name = "archive/other.pkl"; }), "0 entries called data.pkl"},
      {refusal([](Entries& e) {
         e.push_back({"b/data.pkl", "x"});
       }),
       "2 entries called data.pkl"},
      {refusal([](Entries& e) {
         e.push_back({"archive/constants.pkl", "x"});
       }),
       "TorchScript"},
      {refusal([](Entries& e) {
         e.push_back({"../data", "x"});
       }),
       "refused the entry name '../data'"},
      {refusal([](Entries& e) {
         e.push_back({"/etc/passwd", "x"});
       }),
       "refused the entry name"},
      {refusal([](Entries& e) { e.push_back(e[1]); }), "two entries have the same name"},
      {refusal([](Entries& e) { e[1].flags = 1; }), "encrypted"},
      {refusal([](Entries& e) { e[1].method = 12; }), "compression method 12"},
      {refusal([](Entries& e) { e[1].local_name = "archive/data/9"; }), "does not agree"},
      {refusal([](Entries& e) { e[2].offset = 1'000'000; }), "file.pth: "},
      {refusal([](Entries& e) {  // one entry lies inside the data of another: how zip bombs multiply
         const ZipEntry inner{"b", std::string(5000, 'x')};
         const ZipEntry outer{"a", zipped({inner}).substr(0, 30 + 1 + 5000)};
         ZipEntry again = inner;
         again.directory_only = true;
         again.offset = 30 + 1;
         e.insert(e.begin(), {outer, again});
       }),
       "entries overlap"},
      {refusal([](Entries& e) { e[2].data = "three"; }), "version is not a number"},
      {refusal([](Entries& e) {
         e.push_back({"archive/byteorder", "big"});
       }),
       "the byte order is 'big'"},
  };
  for (const auto& [message, part] : cases) {
    CAPTURE(part);
    CAPTURE(message);
    CHECK(has(message, part));
    CHECK(message.starts_with((folder / "file.pth").string() + ": "));
    CHECK(!has(message, "\n"));
  }
}

TEST_CASE("zip files: cut anywhere: refused; spoiled anywhere: refused or read, never a crash") {
  const auto whole = zipped(good());
  for (std::size_t length = 0; length < whole.size(); ++length) {
    CAPTURE(length);
    CHECK(has(refusal(whole.substr(0, length)), "file.pth: "));
  }
  std::mt19937 random(3);
  for (int i = 0; i < 3000; ++i) {
    auto spoiled = whole;
    spoiled[random() % spoiled.size()] = static_cast<char>(random());
    refusal(spoiled);
  }
}

TEST_CASE("the container before torch 1.6") {
  const auto s = load(Legacy{}.file());
  CHECK(s.at("w").to_f32() == Floats{1, 2});
  CHECK(s.at("v").to_f32() == Floats{5, 6});
  // a storage that is a window of another
  const auto view = tuple({text("k1_view"), integer(2), integer(2)});
  Legacy windows;
  windows.object =
      pickled(dict({{"w", Legacy::legacy_tensor("k1", 4, view)}, {"v", Legacy::legacy_tensor("k2", 2, none())}}));
  CHECK(load(windows.file()).at("w").to_f32() == Floats{3, 4});
  Legacy outside = windows;
  outside.object = pickled(dict({{"w", Legacy::legacy_tensor("k1", 4, tuple({text("x"), integer(3), integer(2)}))}}));
  CHECK(has(refusal(outside.file()), "a view outside its storage"));
}

TEST_CASE("the container before torch 1.6: what is refused") {
  const auto spoiled = [](auto spoil) {
    Legacy legacy;
    spoil(legacy);
    return refusal(legacy.file());
  };
  CHECK(has(spoiled([](Legacy& l) { l.magic[5] = 0; }), "not a file of torch.save"));
  CHECK(has(spoiled([](Legacy& l) { l.protocol = pickled(integer(1002)); }), "unknown protocol"));
  CHECK(has(spoiled([](Legacy& l) { l.system = pickled(dict({{"little_endian", boolean(false)}})); }), "not little-endian"));
  CHECK(has(spoiled([](Legacy& l) { l.keys = pickled(list({text("k1")})); }), "storage k2 is missing"));
  CHECK(has(spoiled([](Legacy& l) {
              l.keys = pickled(list({text("k1"), text("k2"), text("k3")}));
            }),
            "storage k3 belongs to no tensor"));
  CHECK(has(spoiled([](Legacy& l) {
              l.keys = pickled(list({text("k1"), text("k1")}));
            }),
            "storage k1 belongs to no tensor"));
  CHECK(has(spoiled([](Legacy& l) { l.keys = pickled(integer(1)); }), "list of storages is missing"));
  CHECK(has(spoiled([](Legacy& l) { l.data[0] = 5; }), "storage k1 has 5 elements, its tensors need 4"));
  CHECK(has(spoiled([](Legacy& l) { l.data += "x"; }), "1 bytes after the last storage"));
  CHECK(has(refusal(std::string(257, 'x') + "ustar" + std::string(300, '\0')), "tar checkpoint"));
  const auto whole = Legacy{}.file();
  for (std::size_t length = 0; length < whole.size(); ++length) {
    CAPTURE(length);
    CHECK(has(refusal(whole.substr(0, length)), "file.pth: "));
  }
}
