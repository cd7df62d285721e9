#include <doctest/doctest.h>

#include <unistd.h>

#include "tests/house/include_check.h"
#include "tests/source_dir.h"

namespace fs = std::filesystem;
using frost::house::broken_includes;

TEST_CASE("house: no #include of ours runs upwards or in a circle") {
  const auto broken = broken_includes(frost::testing::source_dir());
  for (const auto& line : broken) MESSAGE(line);
  CHECK(broken.empty());
}

TEST_CASE("house: the include check finds what is wrong, and only that") {
  const fs::path root = fs::temp_directory_path() / ("frost_house_" + std::to_string(getpid()));
  const auto write = [&](const std::string& file, const std::string& text) {
    fs::create_directories((root / file).parent_path());
    std::ofstream(root / file) << text;
  };
  const auto good_tree = [&] {
    fs::remove_all(root);
    write("kernels/view.h", "#include <cstdint>\n");
    write("kernels/activation.h", "");
    write("kernels/math/silu.h", "#include <cmath>\n#include \"kernels/activation.h\"\n");
    write("kernels/cpu/conv.cpp", "#include <dnnl.hpp>\n#include \"kernels/view.h\"\n#include \"kernels/math/silu.h\"\n");
    write("kernels/cuda/convolution/conv_graph.cpp", "#include <cudnn_frontend.h>\n");
    write("engine/base/rng.h", "");
    write("engine/tensor/tensor.h", "#include \"kernels/view.h\"\n");
    write("engine/autograd/tape.h", "#include \"engine/tensor/tensor.h\"\n");
    write("engine/image/codec.cpp", "#include <jpeglib.h>\n#include \"engine/tensor/tensor.h\"\n");
    write("models/graph/spp.h", "");
    write("models/graph/spp.cpp", "#include \"models/graph/spp.h\"\n");
    write("models/graph/c3.h", "#include \"engine/autograd/tape.h\"\n#include \"models/graph/spp.h\"\n");
    write("models/yolo/head.h", "#include \"models/graph/c3.h\"\n");
    write("tools/train.cpp", "#include <CLI/CLI.hpp>\n#include \"models/yolo/head.h\"\n");
  };
  good_tree();
  CHECK(broken_includes(root).empty());

  struct Mistake {
    const char *file, *text, *expected;
  };
  const Mistake mistakes[] = {
      {"kernels/view.h", "#include \"engine/base/rng.h\"\n", "points upwards"},
      {"engine/tensor/tensor.h", "// a comment\n  #  include \"models/graph/c3.h\"\n", "engine/tensor/tensor.h:2"},
      {"models/yolo/head.h", "#include \"tools/train.cpp\"\n", "points upwards"},
      {"engine/image/codec.cpp", "#include \"engine/autograd/tape.h\"\n", "engine/image must not know engine/autograd"},
      {"engine/autograd/ops/silu.cpp", "#include \"engine/nn/module.h\"\n", "no such file"},
      {"kernels/math/silu.h", "#include \"kernels/view.h\"\n", "kernels/math must not know kernels"},
      {"models/graph/c3.h", "#include \"models/yolo/head.h\"\n", "a circle of includes"},
      {"models/graph/spp.cpp", "#include \"models/graph/c3.h\"\n", "models/graph/c3: a circle of files"},  // c3.h knows spp.h
      {"models/graph/spp.h", "#include \"models/graph/c3.h\"\n", "models/graph/c3: a circle of files"},
      {"engine/tensor/tensor.h", "#include <dnnl.hpp>\n", "stays inside kernels/cpu"},
      {"kernels/cpu/conv.cpp", "#include <cudnn.h>\n", "stays inside kernels/cuda"},
      {"kernels/cuda/convolution/conv.cu", "#include <cudnn_frontend.h>\n",
       "stays inside kernels/cuda/convolution/conv_graph.cpp"},
      {"models/yolo/head.h", "#include <jpeglib.h>\n", "stays inside engine"},
      {"engine/base/rng.h", "#include <CLI/CLI.hpp>\n", "stays inside tools"},
      {"engine/base/rng.h", "#include \"view.h\"\n", "from the project's root"},
  };
  for (const Mistake& m : mistakes) {
    good_tree();
    write(m.file, m.text);
    const auto broken = broken_includes(root);
    CAPTURE(m.file);
    CAPTURE(m.text);
    REQUIRE(!broken.empty());
    CHECK(broken.front().find(m.expected) != std::string::npos);
  }
  fs::remove_all(root);
}

TEST_CASE("house: below the tools nobody prints; what a run has to say goes to its observer") {
  // A progress bar writes where it is told to; the others have no observer to tell.
  const std::set<std::string> exceptions{"engine/report/progress.cpp", "kernels/cuda/convolution/conv.cu",
                                         "kernels/cuda/runtime/plan_store.cpp"};
  const std::regex prints("(\\b(printf|fprintf|puts|fputs)|fmt::print)\\(|std::(cout|cerr)\\b");
  const fs::path root = frost::testing::source_dir();
  for (const char* floor : {"kernels", "engine", "models"})
    for (const auto& entry : fs::recursive_directory_iterator(root / floor)) {
      const std::string file = fs::relative(entry.path(), root).generic_string(), kind = entry.path().extension().string();
      if ((kind != ".h" && kind != ".cpp" && kind != ".cu") || exceptions.contains(file)) continue;
      std::ifstream in(entry.path());
      int number = 0;
      for (std::string line; std::getline(in, line);) {
        ++number;
        CHECK_MESSAGE(!std::regex_search(line, prints), file << ":" << number << ": " << line);
      }
    }
}
