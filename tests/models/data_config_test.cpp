#include "models/yolo/data/data_config.h"

#include <doctest/doctest.h>
#include <sys/stat.h>

#include "kernels/error.h"
#include "tests/golden/golden.h"
#include "tests/models/temp_dataset.h"

namespace frost::yolo {
namespace {

namespace fs = std::filesystem;

/// The message of loading this YAML text, with the temporary folder's name taken out.
std::string message_of(const std::string& text) {
  const test::TempDir dir;
  fs::create_directories(dir / "images/train");
  const std::string file = dir.write("data.yaml", text);
  try {
    load_data_config(file);
  } catch (const Error& e) {
    std::string message = e.what();
    for (auto at = message.find(dir.string()); at != message.npos; at = message.find(dir.string()))
      message.erase(at, dir.string().size() + 1);
    return message;
  }
  return "";
}

struct ChangeFolder {
  fs::path before = fs::current_path();
  explicit ChangeFolder(const fs::path& to) { fs::current_path(to); }
  ~ChangeFolder() { fs::current_path(before); }
};

}  // namespace

TEST_CASE("data config: names as a list or a map, nc is ignored") {
  const test::TempDir dir;
  fs::create_directories(dir / "images/train");
  for (const std::string names :
       {"names: [cat, dog]", "names: {0: cat, 1: dog}", "names: {1: dog, 0: cat}", "names:\n- cat\n- dog"}) {
    const auto config = load_data_config(dir.write("data.yaml", "train: images/train\nval: images/train/\nnc: 7\n" + names));
    CHECK(config.names == std::vector<std::string>{"cat", "dog"});
    CHECK(config.class_count() == 2);
    CHECK(config.root == dir.string());
    CHECK(config.train == std::vector<std::string>{(dir / "images/train").string()});
    CHECK(config.val == config.train);
    CHECK(config.test.empty());
    CHECK(!config.is_coco());
  }
}

TEST_CASE("data config: where a relative path begins") {
  const test::TempDir dir;
  for (const std::string folder : {"beside/set/val", "here/set/val", "here/only/val", "val", "set2/val"})
    fs::create_directories(dir / folder);
  const ChangeFolder here(dir / "here");
  const auto load = [&](const std::string& text) {
    return load_data_config(dir.write("beside/data.yaml", "train: t.txt\nnames: [a]\n" + text));
  };
  CHECK(load("path: set\nval: val").root == dir / "beside/set");  // both exist: the YAML's folder wins
  CHECK(load("path: only\nval: val").root == dir / "here/only");
  CHECK(load("path: " + (dir / "here/set").string() + "\nval: val").root == dir / "here/set");
  CHECK(load("path: .\nval: set/val").root == dir / "beside");
  CHECK(load("path: ''\nval: set/val").root == dir / "beside");
  CHECK(load("path:\nval: set/val").root == dir / "beside");
  CHECK(load("val: only/val").root == dir / "here");  // a YAML in a folder of its own, entries from the current one
  CHECK(load("val: only/val").train[0] == dir / "here/t.txt");
  CHECK(load("path: ..\nval: val").val[0] == dir / "val");
  CHECK(load("val: ../set/val").val[0] == dir / "beside/set/val");  // without the ../ that leads nowhere
  CHECK(load("val: ../set2/val").val[0] == dir / "set2/val");       // the ../ that leads somewhere stays
  CHECK(load("val: [set/val, set/val]").val.size() == 2);
  CHECK_THROWS_AS(load("val: [../set/val]"), Error);  // no such help in lists
  CHECK(load("val:").val.empty());                    // null: nothing to check
}

TEST_CASE("data config: symbolic links are resolved") {
  const test::TempDir dir;
  fs::create_directories(dir / "disk/images");
  fs::create_directory_symlink(dir / "disk/images", dir / "images");
  CHECK(load_data_config(dir.write("data.yaml", "train: images\nval: images\nnames: [a]")).train[0] == dir / "disk/images");
}

TEST_CASE("data config: each mistake has its line") {
  const std::string good = "train: images/train\nval: images/train\n";
  CHECK(message_of(good + "names: [a]") == "");
  CHECK(message_of("val: images/train\nnames: [a]") == "data.yaml 'train:' field missing ❌");
  CHECK(message_of("train: images/train\nnames: [a]") == "data.yaml 'val:' field missing ❌");
  CHECK(message_of(good) == "data.yaml 'names:' field missing ❌");
  CHECK(message_of(good + "names: {0: a, car: b}") == "data.yaml:3: names keys must be integers, i.e. 2: car, not 'car'");
  CHECK(message_of(good + "names: {0: a, '1': b}") == "data.yaml:3: names keys must be integers, i.e. 2: car, not '1'");
  CHECK(message_of(good + "names: {0: a, 1.5: b}") == "data.yaml:3: names keys must be integers, i.e. 2: car, not '1.5'");
  CHECK(message_of(good + "names: {0: a, 99999999999999: b}").find("names keys must be integers") != std::string::npos);
  CHECK(message_of(good + "names: {-1: a}") == "data.yaml:3: class -1 in names is out of range");
  CHECK(message_of(good + "names: {0: a, 2: b}") ==
        "data.yaml: names have no class 1 but a class 2; classes are numbered from 0 without gaps");
  CHECK(message_of(good + "names:\n  0: a\n  0: b") == "data.yaml: key '0' stands there twice, in lines 4 and 5");
  CHECK(message_of(good + "names:\n  0: a\n  00: b") == "data.yaml:5: class 0 has two names");
  for (const std::string none : {"names: []", "names: {}", "names:"})
    CHECK(message_of(good + none) == "data.yaml: 'names:' is empty; at least one class is needed");
  CHECK(message_of(good + "names: cat") == "data.yaml:3: 'names:' must be a list, or a map like 0: person");
  CHECK(message_of(good + "names: [[a]]") == "data.yaml:3: 'names:' must be text");
  CHECK(message_of("train: {a: b}\nval: x\nnames: [a]") == "data.yaml:1: 'train:' must be text");
  CHECK(message_of(good + "names: [a\nx: 3").starts_with("data.yaml:4: not valid YAML: "));
  CHECK(message_of("[a, b]") == "data.yaml: not a dataset file: keys 'train:', 'val:' and 'names:' are expected");
  CHECK(message_of("#") == "data.yaml: not a dataset file: keys 'train:', 'val:' and 'names:' are expected");
  CHECK(message_of("") == "data.yaml: the file is empty");
  CHECK(message_of("train: a\nval: [b, c]\nnames: [a]") == "Dataset not found ❌ data.yaml: missing paths ['b', 'c']");
  CHECK(message_of("train: a\nval: b\nnames: [a]\ndownload: https://x.org/b.zip") ==
        "Dataset not found ❌ data.yaml: missing paths ['b']; frost does not download data sets: get it from "
        "https://x.org/b.zip");

  const test::TempDir dir;
  const std::string absent = (dir / "no.yaml").string();
  CHECK_THROWS_WITH_AS(load_data_config(absent), ("Dataset file '" + absent + "' does not exist").c_str(), Error);
  CHECK_THROWS_WITH_AS(load_data_config(dir.string()),
                       ("Dataset file '" + dir.string() + "' is a folder; a .yaml file is expected").c_str(), Error);
  const std::string file = dir.write("data.yaml", "train: a\nval: b\nnames: [a]");
  CHECK(load_data_config(file, false).val[0] == dir / "b");
}

TEST_CASE("data config: what YOLOv5 would fetch is named where it is an address or a line of bash, never a script") {
  const std::string head = "train: a\nval: b\nnames: [a]\ndownload: ",
                    missing = "Dataset not found ❌ data.yaml: missing paths ['b']";
  for (const std::string source : {"http://x.org/b.zip", "https://x.org/b.zip", "bash data/scripts/get_b.sh"})
    CHECK(message_of(head + source) == missing + "; frost does not download data sets: get it from " + source);
  for (const std::string script :
       {"|\n  import os\n  os.system('echo fetch')", "|\n  from utils.general import download, os, Path\n  download([])",
        "print('https://x.org')", "|\n  # from https://x.org\n  import os"})
    CHECK(message_of(head + script) == missing + "; it has a download script, which frost does not run");
  for (const std::string none : {"", "''", "|\n\n", "[a, b]"}) CHECK(message_of(head + none) == missing);
}

TEST_CASE("data config: a split that names nothing is called missing or empty") {
  const test::TempDir dir;
  fs::create_directories(dir / "images");
  for (const std::string none : {"", " ''", " []", " ['']", " ~", " null"}) {
    const std::string file = dir.write("data.yaml", "train:" + none + "\nval: images\nnames: [a]\n");
    const DataConfig config = load_data_config(file);
    CHECK(config.split("val") == std::vector{(dir / "images").string()});
    CHECK_THROWS_WITH_AS(config.split("train"), (file + ": key 'train' is missing or empty").c_str(), Error);
    CHECK_THROWS_WITH_AS(config.split("test"), (file + ": key 'test' is missing or empty").c_str(), Error);
  }
}

TEST_CASE("data config: keys that stand twice, odd line ends, pointers and what is no file") {
  const test::TempDir dir;
  std::filesystem::create_directories(dir / "new");
  const std::string twice = dir.write(
      "twice.yaml", "train: old\nval: old\nnames: [a, b]\n# pasted:\ntrain: new\nval: new\nnames: [box, ball, bar]\n");
  const DataConfig config = load_data_config(twice);
  CHECK(config.train == std::vector{(dir / "new").string()});
  CHECK(config.names == std::vector<std::string>{"box", "ball", "bar"});
  CHECK(config.warnings.size() == 3);
  CHECK(config.warnings[1] == "WARNING: " + twice + ": key 'val' stands there twice, in lines 2 and 6; the last one counts");

  const DataConfig cr = load_data_config(dir.write("cr.yaml", "train: new\rval: new\rnames:\r  0: a\r  1: b\r"));
  CHECK(cr.names == std::vector<std::string>{"a", "b"});
  CHECK(cr.warnings.empty());

  const std::string pointer = dir.write("lfs.yaml", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n");
  CHECK_THROWS_WITH_AS(load_data_config(pointer), doctest::Contains("lfs.yaml: is a git-lfs pointer"), Error);
  REQUIRE(mkfifo((dir / "pipe.yaml").c_str(), 0600) == 0);
  CHECK_THROWS_WITH_AS(load_data_config((dir / "pipe.yaml").string()), doctest::Contains("pipe.yaml: not a regular file"),
                       Error);
}

TEST_CASE("data config: the shared data sets") {
  if (!golden::have("data")) return;
  const auto data = golden::shared_dir() / "data";
  const auto coco = load_data_config((data / "coco128/coco128.yaml").string());
  CHECK(coco.class_count() == 80);
  CHECK(coco.names[79] == "toothbrush");
  CHECK(coco.val[0] == fs::canonical(data / "coco128/images/train2017"));
  CHECK(load_data_config((data / "bccd/bccd.yaml").string()).names == std::vector<std::string>{"RBC", "WBC", "Platelets"});
}

}  // namespace frost::yolo
