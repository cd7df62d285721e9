#include "tests/house/citation_check.h"

#include <doctest/doctest.h>

#include <unistd.h>

#include "tests/source_dir.h"

namespace fs = std::filesystem;
using frost::house::broken_citations;

TEST_CASE("house: every citation opens a section of docs/spec") {
  const auto broken = broken_citations(frost::testing::source_dir());
  for (const auto& line : broken) MESSAGE(line);
  CHECK(broken.empty());
}

TEST_CASE("house: the citation check finds what is wrong, and only that") {
  const fs::path root = fs::temp_directory_path() / ("frost_citations_" + std::to_string(getpid()));
  const auto write = [&](const std::string& file, const std::string& text) {
    fs::create_directories((root / file).parent_path());
    std::ofstream(root / file) << text;
  };
  const auto good_tree = [&] {
    fs::remove_all(root);
    write("docs/spec/loss.md", "# Loss\n## 2. Targets\ntext\n## 3. Parts\n### 3.1 Box (section 2)\n### 3.10 Last\n");
    write("docs/spec/val.md", "# Val\n## 1. Flags\nAs loss.md section 3.1.\n");
    write("docs/data.md", "# Data\n## 7. Another page's section\n[the loss](spec/loss.md) section 3, section 7\n");
    write("kernels/loss.h",
          "/// One term (docs/spec/loss.md section 3.1).\n/// See docs/data.md, and docs/spec/loss.md\n/// sections 2, 3 to "
          "3.10; 4 of them.\n");
    write("tests/loss_test.cpp",
          "TEST_CASE(\"the example of docs/spec/val.md section 1, step 9\")\n  // a section of a file\n");
  };
  good_tree();
  for (const auto& line : broken_citations(root)) MESSAGE(line);
  CHECK(broken_citations(root).empty());

  struct Mistake {
    const char *file, *text, *expected;
  };
  const Mistake mistakes[] = {
      {"kernels/loss.h", "\n// docs/spec/loss.md section 4\n", "kernels/loss.h:2: docs/spec/loss.md has no section 4"},
      {"kernels/loss.h", "/// docs/spec/loss.md\n/// sections 2 and 3.2\n", "has no section 3.2"},
      {"kernels/loss.cu", "// docs/spec/loss.md section 3.11\n", "has no section 3.11"},
      {"kernels/loss.h", "// docs/spec/train.md section 1\n", "docs/spec/train.md: no such page"},
      {"kernels/loss.h", "// spec/loss.md section 2\n", "write docs/spec/"},
      {"kernels/loss.h", "// loss.md section 2\n", "write docs/spec/"},
      {"kernels/loss.h", "// ../shared/spec/loss.md section 2\n", "write docs/spec/"},
      {"kernels/loss.h", "// all of docs/spec/loss.md\n", "which section?"},
      {"kernels/loss.h", "// docs/spec/loss.md 3.1\n", "which section?"},
      {"tests/loss_test.cpp", "// as section 2 says\n", "section 2: of which page?"},
      {"kernels/loss.h", "/// Section 3.1: the box\n", "section 3.1: of which page?"},
      {"tools/compare.py", "# docs/spec/loss.md section 5\n", "has no section 5"},
      {"docs/spec/val.md", "# Val\n## 1. Flags\nSee loss.md section 1.\n", "docs/spec/loss.md has no section 1"},
      {"docs/spec/val.md", "# Val\n## 1. Flags\nSee section 2.\n", "docs/spec/val.md has no section 2"},
      {"docs/spec/val.md", "# Val\n## 1. Flags\n[train](train.md)\n", "train.md: no such page"},
      {"docs/data.md", "[loss](spec/loss.md) section 9\n", "has no section 9"},
      {"README.md", "`docs/spec/loss.md` section 9\n", "has no section 9"},
  };
  for (const Mistake& m : mistakes) {
    good_tree();
    write(m.file, m.text);
    const auto broken = broken_citations(root);
    CAPTURE(m.file);
    CAPTURE(m.text);
    REQUIRE(!broken.empty());
    const bool named = std::any_of(broken.begin(), broken.end(),
                                   [&](const auto& line) { return line.find(m.expected) != std::string::npos; });
    CAPTURE(broken.front());
    CHECK(named);
  }
  fs::remove_all(root);
}
