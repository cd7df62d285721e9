#pragma once
#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <iostream>
#include <sstream>
#include <string>

#include "tests/kernels/device.h"

/// Runs the tools as a person does, in a scratch folder with a small drawn data set.
namespace frost::tests {

namespace fs = std::filesystem;

/// The tools, beside the tests.
inline const fs::path kTools = fs::read_symlink("/proc/self/exe").parent_path();

/// The folder that tools are started from. FROST_TEST_DEVICE=cuda puts a script in front of each: it adds --device, and
/// --deterministic where the tool has it, unless the command says --device itself or resumes a run, which knows its own.
class ToolFolder {
 public:
  ToolFolder() : folder_(kTools) {
    const std::string device = frost::testing::test_device();
    if (frost::testing::on_cpu()) {
      setenv("CUDA_VISIBLE_DEVICES", "", 1);  // auto must not find another one
      return;
    }
    if (device.starts_with("emulated")) {
      std::cout << "SKIPPED: FROST_TEST_DEVICE=" << device << ": the tools know no such device" << std::endl;
      std::exit(frost::testing::kSkipped);
    }
    frost::testing::make_device_backend();  // ends the program where there is none
    std::string pattern = (fs::temp_directory_path() / "frost-bin-XXXXXX").string();
    folder_ = mkdtemp(pattern.data());
    made_ = true;
    for (const auto& entry : fs::directory_iterator(kTools)) {
      const std::string name = entry.path().filename().string(), tool = entry.path().string();
      if (name.ends_with("_test") || !entry.is_regular_file()) continue;
      const auto knows = [&](const char* flag) {
        return std::system((tool + " --help 2> /dev/null | grep -q -e '" + flag + "'").c_str()) == 0;
      };
      if (name.find(".so") != std::string::npos || !knows("--device ")) {
        fs::create_symlink(entry.path(), folder_ / name);
        continue;
      }
      std::ofstream(folder_ / name) << "#!/bin/sh\ncase \" $* \" in *' --device '*|*' --resume '*|*' --help '*) exec "
                                    << tool << " \"$@\" ;; esac\nexec " << tool << " \"$@\" --device " << device
                                    << (knows("--deterministic") ? " --deterministic\n" : "\n");
      fs::permissions(folder_ / name, fs::perms::owner_all);
    }
  }
  ~ToolFolder() {
    if (made_) fs::remove_all(folder_);
  }
  std::string path() const { return folder_.string() + "/"; }

 private:
  fs::path folder_;
  bool made_ = false;
};
inline const ToolFolder kToolFolder;
inline const std::string kBin = kToolFolder.path();

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

/// The last line of stderr is the message; no sanitizer report, no second error line.
inline void expect_error(const Outcome& outcome, const std::string& tool, std::initializer_list<std::string> words,
                         int code = 1) {
  CAPTURE(outcome.err);
  CHECK(outcome.code == code);
  int messages = 0;
  std::string message;
  std::istringstream lines(outcome.err);
  for (std::string line; std::getline(lines, line);)
    if (line.starts_with(tool + ": ")) ++messages, message = line;
  CHECK(messages == 1);
  for (const std::string& word : words) {
    INFO("expected in the message: ", word);
    CHECK(message.find(word) != std::string::npos);
  }
}

}  // namespace frost::tests
