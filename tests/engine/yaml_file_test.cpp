#include "engine/base/yaml_file.h"

#include <doctest/doctest.h>
#include <yaml-cpp/yaml.h>

#include "kernels/error.h"
#include "tests/models/temp_dataset.h"

namespace frost {
namespace {

using Lines = std::vector<std::string>;

std::string error_of(const std::string& text, Lines* warnings) {
  try {
    parse_yaml(text, "a.yaml", warnings);
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}
std::string error_of(const std::string& text) {
  Lines warnings;
  return error_of(text, &warnings);
}
/// The document in one line, aliases written out.
std::string line_of(const YAML::Node& node) {
  if (node.IsNull()) return "~";
  if (node.IsScalar()) return node.Scalar();
  std::string line;
  for (const auto& item : node) {
    line += line.empty() ? "" : ", ";
    line += node.IsMap() ? line_of(item.first) + ": " + line_of(item.second) : line_of(item);
  }
  return node.IsMap() ? "{" + line + "}" : "[" + line + "]";
}
std::string flow(const std::string& text, Lines& warnings) { return line_of(parse_yaml(text, "a.yaml", &warnings)); }
std::string flow(const std::string& text) {
  Lines warnings;
  std::string line = flow(text, warnings);
  CHECK(warnings.empty());
  return line;
}

}  // namespace

TEST_CASE("yaml: of a key that stands twice the last one counts, as PyYAML has it, and both lines are named") {
  Lines warnings;
  CHECK(flow("train: a\nnames: [x]\ntrain: b\n", warnings) == "{names: [x], train: b}");
  CHECK(warnings == Lines{"WARNING: a.yaml: key 'train' stands there twice, in lines 1 and 3; the last one counts"});
  warnings.clear();
  CHECK(flow("train: a\ntrain: b\n\ntrain: [c]\n", warnings) == "{train: [c]}");  // three times
  CHECK(warnings == Lines{"WARNING: a.yaml: key 'train' stands there twice, in lines 1 and 2; the last one counts",
                          "WARNING: a.yaml: key 'train' stands there twice, in lines 2 and 4; the last one counts"});
  warnings.clear();
  CHECK(flow("a:\n  b: {c: 1, d: 2, c: 3}\n  b:\n    c: 4\n", warnings) == "{a: {b: {c: 4}}}");  // nested, both forms
  CHECK(warnings.size() == 2);
  CHECK(warnings[0] == "WARNING: a.yaml: key 'c' stands there twice, in lines 2 and 2; the last one counts");
  warnings.clear();
  CHECK(flow("- {x: 1, x: 2}\n- 3\n", warnings) == "[{x: 2}, 3]");
  CHECK(warnings.size() == 1);
  warnings.clear();
  CHECK(flow("a: &m {x: 1, x: 2}\nb: *m\nc: *m\n", warnings).find("x: 1") == std::string::npos);  // said once
  CHECK(warnings.size() == 1);
  warnings.clear();
  CHECK(flow("a: 1\n'a': 2\n\"a\": 3\n", warnings) == "{a: 3}");
  CHECK(warnings.size() == 2);
  warnings.clear();
  CHECK(flow("0: a\n1: b\n0: c\n~: d\n~: e\n", warnings).find("c") != std::string::npos);
  CHECK(warnings.size() == 2);

  CHECK(error_of("lr0: 1\nx: {lr0: 1}\nlr0: 2\n", nullptr) == "a.yaml: key 'lr0' stands there twice, in lines 1 and 3");
  CHECK(error_of("x: {lr0: 1}\ny: {lr0: 1}\n", nullptr) == "no error");
  Lines none;
  CHECK_THROWS_WITH_AS(parse_yaml("names: {0: a, 0: b}\n", "a.yaml", &none, "names"),
                       "a.yaml: key '0' stands there twice, in lines 1 and 1", Error);
  CHECK_THROWS_AS(parse_yaml("names: [{a: {0: a, 0: b}}]\n", "a.yaml", &none, "names"), Error);
  std::string many;
  for (int i = 0; i < 102; ++i) many += "a: 1\n";
  CHECK(error_of(many) == "a.yaml: not valid YAML: more than 100 keys that stand twice");
}

TEST_CASE("yaml: merge keys as PyYAML's: the map's own keys first, then the first map that has one") {
  CHECK(flow("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\n").ends_with("b: {y: 3, x: 1}}"));
  CHECK(flow("a: &a {x: 1}\nb: &b {x: 2, z: 3}\nc:\n  <<: [*a, *b]\n").ends_with("c: {x: 1, z: 3}}"));
  CHECK(flow("a: &a {x: 1}\nb: &b {<<: *a, y: 2}\nc: {<<: *b}\n").ends_with("c: {y: 2, x: 1}}"));
  CHECK(flow("'<<': 1\n") == "{<<: 1}");
  CHECK(error_of("a: 1\n<<: 5\n") == "a.yaml:2: '<<' merges a map or a list of maps");
  CHECK(error_of("<<: [{a: 1}, 5]\n") == "a.yaml:1: '<<' merges a map or a list of maps");
}

TEST_CASE("yaml: line ends of CR, CR LF and LF, and a byte order mark") {
  const std::string lf = "train: a\nnames:\n  0: x\n  1: y\n", want = "{train: a, names: {0: x, 1: y}}";
  for (const std::string end : {"\n", "\r\n", "\r"})
    for (const std::string mark : {"", "\xef\xbb\xbf"}) {
      std::string text = mark;
      for (const char c : lf) text += c == '\n' ? end : std::string(1, c);
      CHECK(flow(text) == want);
      text.replace(text.find("0: x"), 4, "0: [");
      CHECK(error_of(text).starts_with("a.yaml:"));
    }
  CHECK(error_of("a: 1\rb: [\rc: 2\r").starts_with("a.yaml:"));
  CHECK(flow("a: 'x\r  y'\r") == "{a: x y}");  // a folded line
}

TEST_CASE("yaml: what PyYAML refuses is refused, with the line") {
  CHECK(error_of("names:\n\t0: a\n") == "a.yaml:2: not valid YAML: a tab in the indentation; YAML wants blanks");
  CHECK(error_of("a:\n  b: 1\n \tc: 2\n") == "a.yaml:3: not valid YAML: a tab in the indentation; YAML wants blanks");
  CHECK(error_of("a:\n\t- 1\n") == "a.yaml:2: not valid YAML: a tab in the indentation; YAML wants blanks");
  CHECK(error_of("a: 1\nb: x\ty\n") == "no error");
  CHECK(error_of("a: 1\nb: \x04\n") == "a.yaml:2: not valid YAML: a control character (byte 4)");
  CHECK(error_of(std::string("a: 1\0b", 6)) == "a.yaml:1: not valid YAML: a control character (byte 0)");
  CHECK(error_of("a: 1\n---\nb: 2\n") == "a.yaml: not valid YAML: more than one document ('---')");
  CHECK(error_of("---\na: 1\n...\n") == "no error");
  CHECK(error_of("a: 1\n{{ nc }}: 2\n").starts_with("a.yaml:2: not valid YAML: "));
  CHECK(error_of("a: *b\n").starts_with("a.yaml:1: not valid YAML: "));
  CHECK(error_of("a: &a [*a]\n") == "a.yaml:1: not valid YAML: an alias within what it names");
  for (const std::string nothing : {"", "\n", "\xef\xbb\xbf", " \r\n\r\n"})
    CHECK(error_of(nothing) == "a.yaml: the file is empty");
  CHECK(flow("# nothing\n") == "~");
}

TEST_CASE("yaml: aliases and depth are bounded by the file") {
  std::string bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 10; ++i) {
    const std::string before = "*a" + std::to_string(i - 1);
    bomb += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [" + before;
    for (int k = 0; k < 9; ++k) bomb += ", " + before;
    bomb += "]\n";
  }
  CHECK(error_of(bomb).find("aliases repeat too much") != std::string::npos);
  std::string merges = "a0: &a0 {k0: 1}\n";  // each map takes up all before it
  for (int i = 1; i < 3000; ++i) {
    const std::string n = std::to_string(i);
    merges += "a" + n + ": &a" + n + " {<<: *a" + std::to_string(i - 1) + ", k" + n + ": 1}\n";
  }
  CHECK(error_of(merges).find("aliases repeat too much") != std::string::npos);
  std::string texts = "a: &a " + std::string(5000, 'x') + "\nb: [*a";
  for (int i = 0; i < 1000; ++i) texts += ", *a";
  CHECK(error_of(texts + "]\n").find("aliases repeat too much") != std::string::npos);
  std::string names = "names: &n [";
  for (int i = 0; i < 80; ++i) names += (i ? ", class " : "class ") + std::to_string(i);
  CHECK(error_of(names + "]\na: *n\nb: *n\nc: {<<: {d: *n}}\n") == "no error");  // an honest use

  const auto nested = [](int depth) {
    const auto n = static_cast<std::size_t>(depth);
    return "a: " + std::string(n, '[') + std::string(n, ']');
  };
  CHECK(error_of(nested(90)) == "no error");
  for (const int depth : {101, 1000, 100000})
    CHECK(error_of(nested(depth)).find("more than 100 lists and maps in each other") != std::string::npos);
  std::string maps;
  for (int i = 0; i < 300; ++i) maps += std::string(static_cast<std::size_t>(i), ' ') + "a:\n";
  CHECK(error_of(maps).find("more than 100 lists and maps in each other") != std::string::npos);
}

TEST_CASE("yaml: files") {
  const test::TempDir dir;
  Lines warnings;
  const std::string file = dir.write("a.yaml", "a: 1\na: 2\n");
  CHECK(load_yaml(file, &warnings)["a"].as<int>() == 2);
  CHECK(warnings.at(0).starts_with("WARNING: " + file + ": key 'a' stands there twice, in lines 1 and 2"));
  CHECK_THROWS_WITH_AS(load_yaml(dir / "b.yaml", &warnings), doctest::Contains("b.yaml: No such file"), Error);
  CHECK_THROWS_WITH_AS(load_yaml("/dev/null", &warnings), "/dev/null: not a regular file", Error);
}

}  // namespace frost
