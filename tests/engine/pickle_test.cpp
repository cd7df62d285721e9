#include "engine/checkpoint/pickle.h"

#include <doctest/doctest.h>

#include <random>
#include <span>

#include "tests/engine/torch_builder.h"

using namespace frost;
using namespace frost::build;
using pickle::Kind;

namespace {

pickle::Document parse(const std::string& bytes) { return pickle::parse(std::as_bytes(std::span(bytes))); }
/// The error for a pickle of protocol 2 with this body (STOP included by the caller).
std::string refusal(const std::string& body) {
  return error_of([&] { parse("\x80\x02" + body); });
}
std::string str(std::initializer_list<int> bytes) {
  std::string out;
  for (const int b : bytes) out += static_cast<char>(b);
  return out;
}

/// One of everything that a real checkpoint holds, small.
std::string sample() {
  const auto t = tensor(storage("HalfStorage", "0", 12), 1, {2, 3}, {4, 1});
  const auto dtype = reduce(global("numpy", "dtype"), {text("f8"), boolean(false), boolean(true)}) +
                     tuple({integer(3), text("<"), none(), none(), none(), integer(-1), integer(-1), integer(0)}) + "b";
  const auto bytes = reduce(global("_codecs", "encode"), {text(str({0, 0, 0, 0, 0, 0, 0xC3, 0xB0, 0x3F})), text("latin1")});
  return pickled(dict(
      {{"epoch", integer(-1)},
       {"fitness", reduce(global("numpy.core.multiarray", "scalar"), {dtype, bytes})},
       {"tensor", t + "q" + str({9})},
       {"again", "h" + str({9})},
       {"list", list({none(), real(1.5), boolean(true)})},
       {"model", object("models.yolo", "Model", {{"set", reduce(global("__builtin__", "set"), {list({integer(1)})})}})}}));
}

}  // namespace

TEST_CASE("values of protocol 2") {
  const auto d = parse(sample());
  CHECK(d.number(d.find(d.root(), "epoch")) == -1);
  CHECK(d.number(d.find(d.root(), "fitness")) == 1.0);
  CHECK(d.find(d.root(), "again") == d.find(d.root(), "tensor"));  // one value, two names
  const auto& t = d.tensor(d.find(d.root(), "tensor"));
  CHECK(t.size == std::vector<std::int64_t>{2, 3});
  CHECK(t.stride == std::vector<std::int64_t>{4, 1});
  CHECK(t.offset == 1);
  CHECK(d.storages()[t.storage].key == "0");
  CHECK(d.symbol(d.find(d.root(), "model")) == "models.yolo.Model");
  CHECK(d.is(d.find(d.root(), "model.set"), Kind::set));
  CHECK(d.find(d.root(), "model.none.below") == pickle::kNothing);
  CHECK(d.find(d.root(), "epoch.below") == pickle::kNothing);
  CHECK(!d.numbers(d.find(d.root(), "list")));
  const auto entries = d.entries(d.root());
  REQUIRE(entries.size() == 6);
  CHECK(d[entries[1].first].text == "fitness");
}

TEST_CASE("integers, texts and bytes of all widths") {
  const auto one = [](const std::string& body) {
    auto d = parse("\x80\x02" + body + ".");
    return d[d.root()];
  };
  CHECK(one("K\xFF").integer == 255);
  CHECK(one("M\xFF\xFF").integer == 65535);
  CHECK(one("J\xFE\xFF\xFF\xFF").integer == -2);
  CHECK(one(str({0x8A, 0})).integer == 0);
  CHECK(one(str({0x8A, 1, 0xFF})).integer == -1);
  CHECK(one(str({0x8A, 5, 0, 0, 0, 0, 1})).integer == 4294967296);
  CHECK(one(str({0x8A, 8, 0, 0, 0, 0, 0, 0, 0, 0x80})).integer == INT64_MIN);
  CHECK(one(str({0x8A, 9, 0, 0, 0, 0, 0, 0, 0, 0, 1})).kind == Kind::big_integer);
  CHECK(one(str({0x8B, 2, 0, 0, 0, 0x34, 0x12})).integer == 0x1234);
  CHECK(one(real(-0.1)).real == -0.1);
  CHECK(one(text("h\xC3\xA9")).text == "h\xC3\xA9");
  CHECK(one(str({0x8C, 2, 'h', 'i'})).text == "hi");
  CHECK(one(str({0x8D, 2, 0, 0, 0, 0, 0, 0, 0, 'h', 'i'})).text == "hi");
  CHECK(one(str({'B', 1, 0, 0, 0, 0xFF})).kind == Kind::bytes);
  CHECK(one(str({'C', 1, 0xFF})).text == "\xFF");
  CHECK(one(str({'U', 1, 0xFF})).kind == Kind::bytes);
  CHECK(one(str({'U', 1, 'a'})).kind == Kind::text);
  CHECK(one(str({'T', 1, 0, 0, 0, 'a'})).text == "a");
}

TEST_CASE("containers, memo and stack") {
  const auto one = [](const std::string& body) { return parse("\x80\x02" + body + "."); };
  auto d = one("(K\x01K\x02t");
  CHECK(d.numbers(d.root()) == std::vector<double>{1, 2});
  d = one("K\x01K\x02K\x03\x87");
  CHECK(d.numbers(d.root()) == std::vector<double>{1, 2, 3});
  d =
      one("]K\x01"
          "a(K\x02K\x03"
          "e");
  CHECK(d.numbers(d.root()) == std::vector<double>{1, 2, 3});
  d = one("}X\x01" + std::string("\0\0\0", 3) + "aK\x01s(" + text("a") + "K\x02" + text("b") + "K\x03u");
  CHECK(d.number(d.get(d.root(), "a")) == 2);  // of equal keys the last counts
  REQUIRE(d.entries(d.root()).size() == 2);
  CHECK(d.number(d.entries(d.root())[0].second) == 2);
  d = one("]q" + std::string(1, '\0') + "h" + std::string(1, '\0') + "a");  // a list that holds itself
  CHECK(d[d.root()].items == std::vector<pickle::Ref>{d.root()});
  d =
      one("K\x01K\x02"
          "0");
  CHECK(d.number(d.root()) == 1);
  d =
      one("K\x01(K\x02K\x03"
          "1");
  CHECK(d.number(d.root()) == 1);
  d = one("K\x01(0");  // POP of a mark
  CHECK(d.number(d.root()) == 1);
  d =
      one("K\x01"
          "2\x86");
  CHECK(d.numbers(d.root()) == std::vector<double>{1, 1});
  d = one(str({0x8F, '(', 'K', 1, 'K', 2, 0x90}));
  CHECK(d[d.root()].items.size() == 2);
  d = one(str({'(', 'K', 1, 0x91}));
  CHECK(d.is(d.root(), Kind::set));
  d = one(reduce(global("collections", "OrderedDict"), {list({list({text("k"), integer(5)})})}));
  CHECK(d.number(d.get(d.root(), "k")) == 5);
}

TEST_CASE("protocol 4: frames, memoize, stack globals") {
  const std::string body = str({0x8C, 6}) + "models" +
                           str({0x94, 0x8C, 1, 'M', 0x94, 0x93, 0x94, ')', 0x81, 0x94, '}', 0x94}) +
                           str({0x8C, 1, 'm', 0x94, 'h', 0, 's', 'b', '.'});
  const auto d = parse("\x80\x04\x95" + little<std::uint64_t>(body.size()) + body);
  CHECK(d.symbol(d.root()) == "models.M");
  CHECK(d[d.get(d.root(), "m")].text == "models");
}

TEST_CASE("nothing is called: the call stays a record") {
  const auto d = parse(pickled(os_system()));
  CHECK(d.is(d.root(), Kind::call));
  CHECK(d.symbol(d.root()) == "posix.system");
  CHECK(d[d[d.root()].items[0]].text == "touch /tmp/frost_was_hacked");
  CHECK(!std::filesystem::exists("/tmp/frost_was_hacked"));
  // the result of a call may be called again; that has no name
  const auto nested =
      parse(pickled(reduce(reduce(global("builtins", "getattr"), {global("os", "x"), text("system")}), {text("id")})));
  CHECK(nested.symbol(nested.root()).empty());
  CHECK(nested.is(nested.root(), Kind::call));
}

TEST_CASE("numpy values") {
  const auto dtype = [](const char* type, const char* order) {
    return reduce(global("numpy", "dtype"), {text(type), boolean(false), boolean(true)}) +
           tuple({integer(3), text(order), none(), none(), none(), integer(-1), integer(-1), integer(0)}) + "b";
  };
  const auto bytes = [](const std::string& raw) { return "C" + std::string(1, static_cast<char>(raw.size())) + raw; };
  const auto number = [&](const char* type, const char* order, const std::string& raw) {
    const auto d = parse(pickled(reduce(global("numpy._core.multiarray", "scalar"), {dtype(type, order), bytes(raw)})));
    return d.number(d.root());
  };
  CHECK(number("f4", "<", little(2.5f)) == 2.5);
  CHECK(number("i8", "<", little<std::int64_t>(-3)) == -3);
  CHECK(number("b1", "|", "\x01") == 1);
  CHECK(!number("f8", ">", little(1.0)));
  CHECK(!number("f8", "<", "1234567"));
  CHECK(!number("V8", "<", little(1.0)));
  const auto array =
      reduce(global("numpy.core.multiarray", "_reconstruct"), {global("numpy", "ndarray"), integers({0}), bytes("b")}) +
      tuple({integer(1), integers({2}), dtype("f8", "<"), boolean(false), bytes(little(0.25) + little(-1.0))}) + "b";
  const auto d = parse(pickled(array));
  CHECK(d.numbers(d.root()) == std::vector<double>{0.25, -1});
}

TEST_CASE("tensors: what reaches outside its storage is refused") {
  const auto make = [](std::int32_t offset, const std::vector<std::int32_t>& size, const std::vector<std::int32_t>& stride,
                       std::int32_t count = 6) {
    const auto bytes = pickled(tensor(storage("FloatStorage", "k", count), offset, size, stride));
    return error_of([&] { parse(bytes); });
  };
  CHECK(make(0, {2, 3}, {3, 1}).empty());
  CHECK(make(0, {3, 2}, {1, 3}).empty());     // transposed
  CHECK(make(0, {1000, 6}, {0, 1}).empty());  // expanded
  CHECK(make(5, {}, {}).empty());
  CHECK(make(0, {0, 5}, {100, 100}, 0).empty());  // empty tensors read nothing
  CHECK(has(make(6, {}, {}), "reaches element 6 of a storage of 6"));
  CHECK(has(make(1, {2, 3}, {3, 1}), "reaches element 6"));
  CHECK(has(make(0, {2, 3}, {4, 1}), "reaches element 6"));
  CHECK(has(make(0, {1}, {1}, 0), "reaches element 0 of a storage of 0"));
  CHECK(has(make(-1, {1}, {1}), "offset is not a non-negative"));
  CHECK(has(make(0, {-1}, {1}), "size is not a non-negative"));
  CHECK(has(make(0, {1}, {-1}), "stride is not a non-negative"));
  CHECK(has(make(0, {1, 1}, {1}), "2 dimensions with 1 strides"));
  CHECK(has(make(0, std::vector<std::int32_t>(9, 1), std::vector<std::int32_t>(9, 1)), "9 dimensions"));
  CHECK(has(make(0, {2147483647, 2147483647, 2147483647}, {0, 0, 0}), "too many elements"));
  CHECK(has(make(0, {2147483647, 2147483647, 2147483647}, {2147483647, 2147483647, 2147483647}), "too many elements"));
  CHECK(has(make(0, {1}, {1}, -6), "element count is not a non-negative"));
  const auto typed = [](const char* type, const std::string& rest) {
    return error_of(
        [&] { parse(pickled(reduce(global("torch._utils", "_rebuild_tensor_v2"), {storage(type, "k", 4)}) + rest)); });
  };
  CHECK(has(typed("QInt8Storage", ""), "unsupported storage type torch.QInt8Storage"));
  CHECK(has(typed("FloatStorage", ""), "a tensor without a storage"));  // too few arguments
  const auto twice = pickled(tuple({storage("FloatStorage", "k", 4), storage("HalfStorage", "k", 4)}));
  CHECK(has(error_of([&] { parse(twice); }), "storage k has two types or sizes"));
  const auto untyped =
      "(" + text("storage") + global("torch.storage", "UntypedStorage") + text("k") + text("cpu") + integer(8) + "tQ";
  const auto v3 = [&](int size, const char* dtype) {
    return reduce(global("torch._utils", "_rebuild_tensor_v3"), {untyped, integer(0), integers({size}), integers({1}),
                                                                 boolean(false), ordered({}), global("torch", dtype)});
  };
  CHECK(error_of([&] { parse(pickled(v3(4, "bfloat16"))); }).empty());
  CHECK(has(error_of([&] { parse(pickled(v3(5, "bfloat16"))); }), "reaches element 4 of a storage of 4"));
  CHECK(has(error_of([&] { parse(pickled(v3(1, "complex64"))); }), "unsupported type torch.complex64"));
}

TEST_CASE("what is refused") {
  const std::string deep(1001, '('), zeros(3, '\0');
  const std::vector<std::pair<std::string, const char*>> cases = {
      {error_of([] { parse(""); }), "not a pickle"},
      {error_of([] { parse("}."); }), "not a pickle"},
      {error_of([] { parse("\x80\x06}."); }), "protocol 6"},
      {refusal("N"), "truncated"},
      {refusal("."), "leaves 0 values"},
      {refusal("NN."), "leaves 2 values"},
      {refusal("(N."), "not one"},
      {refusal("N.N"), "1 bytes follow"},
      {refusal("0."), "stack underflow"},
      {refusal("(N\x86."), "stack underflow"},  // the mark hides what is below
      {refusal("N(\x85."), "stack underflow"},
      {refusal("t."), "no mark"},
      {refusal("h\x07."), "memo index 7 is not set"},
      {refusal("Nq\x07h\x06."), "memo index 6 is not set"},
      {refusal("Nr\xFF\xFF\xFF\xFF."), "memo index 4294967295 is too large"},
      {refusal("j\xFF\xFF\xFF\xFF."), "is not set"},
      {refusal(deep), "nested more than 1000"},
      {refusal("X\xFF\xFF\xFF\xFF"
               "abc."),
       "a text of 4294967295 bytes"},
      {refusal("X\x09" + zeros + "abc."), "truncated"},
      {refusal("X\x02" + zeros + "\xC3\x28."), "not UTF-8"},
      {refusal("X\x03" + zeros + "\xED\xA0\x80."), "not UTF-8"},  // a surrogate
      {refusal("X\x02" + zeros + "\xC0\x80."), "not UTF-8"},      // an overlong zero
      {refusal("T\xFF\xFF\xFF\xFF."), "negative length"},
      {refusal("cos\nsystem."), "global's name without end"},
      {refusal("c" + std::string(2000, 'x') + "\nsystem\n."), "global's name without end"},
      {refusal("K\x01K\x02\x93."), "global's name is not text"},
      {refusal("NN"
               "a."),
       "cannot append to a none"},
      {refusal("NNNs."), "cannot set items of a none"},
      {refusal("}(Nu."), "a key without a value"},
      {refusal("}NNs."), "a none as a key"},
      {refusal("})Ns."), "a tuple as a key"},
      {refusal("N)\x81."), "NEWOBJ of a none"},
      {refusal("cm\nC\nN\x81."), "NEWOBJ"},
      {refusal("cm\nC\nNR."), "REDUCE with a none"},
      {refusal("NNb."), "BUILD of a none"},
      {refusal("cm\nC\n)\x81Nb."), "BUILD of an object from a none"},
      {refusal("NQ."), "a persistent id that is no tuple"},
      {refusal("X\x01" + zeros + "x\x85Q."), "unknown kind of persistent id"},
      {refusal(reduce(global("_codecs", "encode"), {text("a"), text("rot13")}) + "."), "_codecs.encode"},
      {refusal(reduce(global("_codecs", "encode"), {text("\xC4\x80"), text("latin1")}) + "."), "character 256"},
      {refusal(reduce(global("collections", "OrderedDict"), {integer(1)}) + "."), "OrderedDict of a int"},
      {refusal(reduce(global("__builtin__", "set"), {integer(1)}) + "."), "set of a int"},
      {refusal(reduce(global("torch._utils", "_rebuild_parameter"), {integer(1)}) + "."), "without a tensor"},
      {refusal(str({0x95, 99, 0, 0, 0, 0, 0, 0, 0}) + "N."), "truncated"},
  };
  for (const auto& [message, part] : cases) {
    CAPTURE(part);
    CAPTURE(message);
    CHECK(has(message, part));
    CHECK(message.starts_with("byte "));
  }
  // INST, OBJ, EXT1-4, NEWOBJ_EX, PERSID, buffers, text numbers of protocol 0, and bytes that are no opcode
  for (const int op : std::initializer_list<int>{'i', 'o', 0x82, 0x83, 0x84, 0x92, 'P', 0x96, 0x97, 0x98, 'I',
                                                 'L', 'F', 'S',  'V',  'g',  'p',  'd', 'l',  0x00, 0xFF})
    CHECK(has(refusal(std::string(1, static_cast<char>(op)) + "."), "is refused"));
}

TEST_CASE("bombs are refused before they cost memory") {
  std::string lists = "(";
  for (int i = 0; i < (1 << 22) + 10; ++i) lists += ']';
  CHECK(has(refusal(lists), "asks for more than"));
  // one tuple as the arguments of many calls, whatever is called
  for (const std::string& callable :
       {global("numpy", "ndarray"), global("torch._utils", "_rebuild_tensor_v2"), global("a", "b")}) {
    std::string calls = callable + "q\x01" + "(" + std::string(200'000, 'N') + "tq\x02";
    for (int i = 0; i < 2000; ++i) calls += "h\x01h\x02R";
    CHECK(!refusal(calls + ".").empty());
  }
  CHECK(has(refusal("]q" + std::string(1, '\0') + "(" + std::string((1 << 24) + 2, 'N') + "e."), "too deep"));
  // nested tuples are depth without marks: harmless here, and walkers count their own depth
  auto d = parse(
      "\x80\x02"
      ")" +
      std::string(100'000, '\x85') + ".");
  CHECK(d[d.root()].items.size() == 1);
}

TEST_CASE("cut anywhere: refused; spoiled anywhere: refused or read, never a crash") {
  const auto whole = sample();
  REQUIRE(error_of([&] { parse(whole); }).empty());
  for (std::size_t length = 0; length < whole.size(); ++length)
    CHECK(!error_of([&] { parse(whole.substr(0, length)); }).empty());
  std::mt19937 random(2);
  for (int i = 0; i < 20'000; ++i) {
    auto spoiled = whole;
    for (int k = 0; k <= i % 3; ++k) spoiled[random() % spoiled.size()] = static_cast<char>(random());
    error_of([&] {
      const auto d = parse(spoiled);
      d.number(d.find(d.root(), "fitness"));
      d.entries(d.root());
    });
  }
}
