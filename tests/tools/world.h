#pragma once
#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

/// Runs the tools as a person does, in a scratch folder with a small drawn data set.
namespace frost::tests {

namespace fs = std::filesystem;

inline const std::string kBin = std::string(FROST_BINARY_DIR) + "/bin/";

struct Outcome {
  int code;
  std::string out, err;
};

inline std::string slurp(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}
inline void write(const fs::path& file, const std::string& text) {
  fs::create_directories(file.parent_path());
  std::ofstream(file, std::ios::binary) << text;
}

/// A scratch folder with a small data set of drawn shapes, made once.
struct World {
  fs::path dir;
  World() {
    std::string pattern = (fs::temp_directory_path() / "frost-tools-XXXXXX").string();
    dir = mkdtemp(pattern.data());
    REQUIRE(
        std::system((kBin + "make-shapes --out " + (dir / "shapes").string() + " --train 8 --val 4 --imgsz 96 > /dev/null")
                        .c_str()) == 0);
  }
  ~World() { fs::remove_all(dir); }
  std::string data() const { return (dir / "shapes" / "shapes.yaml").string(); }

  Outcome run(const std::string& command) const {
    const int status =
        std::system(("cd " + dir.string() + " && { " + command + " ; } > out.txt 2> err.txt < /dev/null").c_str());
    return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), slurp(dir / "out.txt"),
            slurp(dir / "err.txt")};
  }
  Outcome train(const std::string& flags) const {
    return run(kBin + "yolo-train --data " + data() + " --imgsz 64 --batch-size 4 --epochs 1 --noplots " + flags);
  }
  Outcome val(const std::string& flags) const { return run(kBin + "yolo-val --imgsz 64 --batch-size 4 --noplots " + flags); }
};
inline const World& world() {
  static const World w;
  return w;
}

}  // namespace frost::tests
