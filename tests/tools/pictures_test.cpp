#include <doctest/doctest.h>
#include <sys/stat.h>

#include <algorithm>
#include <map>

#include "tests/golden/images.h"
#include "tests/picture_files.h"
#include "tests/tools/world.h"

// Pictures of every format and every kind of corruption, end to end: each bad one is named once and costs itself, not the
// run.
using namespace frost::tests;
using frost::testing::CorruptImage;
using frost::testing::Found;
namespace testing = frost::testing;
namespace golden = frost::golden;

namespace {

const std::vector<CorruptImage>& corrupt() {
  static const auto all = testing::corrupt_images(golden::noise(40, 48, "corrupt"));
  return all;
}
/// A sound picture of each format.
std::map<std::string, testing::Bytes> sound() {
  std::map<std::string, testing::Bytes> all;
  for (const std::string format : {"png", "jpg", "bmp", "webp", "tif"})
    all["good_" + format + "." + format] = testing::encoded(format, golden::noise(40, 48, "good" + format));
  return all;
}

/// A detection set whose training and validation folders hold sound pictures and what `bad` chooses.
template <class Choose>
fs::path detection_set(const std::string& name, Choose bad_in) {
  const fs::path d = world().dir / name;
  for (const std::string split : {"train", "val"}) {
    const auto add = [&](const std::string& file, const testing::Bytes& bytes) {
      testing::spill(d / "images" / split / file, bytes);
      write(d / "labels" / split / (fs::path(file).stem().string() + ".txt"), "0 0.5 0.5 0.4 0.4\n");
    };
    for (const auto& [file, bytes] : sound()) add(file, bytes);
    for (const CorruptImage& p : corrupt())
      if (bad_in(split, p)) add(p.file(), p.bytes);
  }
  write(d / "data.yaml", "train: images/train\nval: images/val\nnames: [box]\n");
  return d / "data.yaml";
}

std::size_t count(const std::string& text, const std::string& what) {
  std::size_t n = 0;
  for (std::size_t at = 0; (at = text.find(what, at)) != std::string::npos; at += what.size()) ++n;
  return n;
}
/// Lines that name this file.
std::size_t lines_of(const Outcome& outcome, const std::string& file) {
  std::istringstream lines(outcome.out + "\n" + outcome.err);
  std::size_t n = 0;
  for (std::string line; std::getline(lines, line);) n += line.find("/" + file) != std::string::npos;
  return n;
}
void check_one_error(const Outcome& outcome, const std::string& tool, const std::string& word) {
  CAPTURE(outcome.err);
  CHECK(outcome.err.substr(outcome.err.find("\n" + tool + ": ") + 1).find("ignoring") == std::string::npos);
  CHECK(outcome.code == 1);
  CHECK(count("\n" + outcome.err, "\n" + tool + ": ") == 1);
  CHECK(outcome.err.find(word) != std::string::npos);
}

const std::string kTrain =
    kBin + "yolo-train --weights '' --cfg yolov5n.yaml --imgsz 64 --batch-size 4 --noplots --project ";

}  // namespace

TEST_CASE("detectors: all formats are read, all corruption is named once and costs its picture alone") {
  const fs::path data = detection_set("corrupt", [](const std::string&, const CorruptImage&) { return true; });
  const auto flags = "corrupt-runs --exist-ok --epochs 2 --data " + data.string();
  std::string first;
  for (const std::string how : {"--workers 0 --name a", "--workers 3 --name b", "--workers 2 --cache --name c"}) {
    const Outcome outcome = world().run(kTrain + flags + " " + how);
    CAPTURE(outcome.err);
    REQUIRE(outcome.code == 0);
    CHECK(fs::exists(world().dir / "corrupt-runs" / how.substr(how.size() - 1) / "weights" / "best.safetensors"));
    for (const CorruptImage& p : corrupt()) {
      CAPTURE(p.file());
      // The first run scans: a JPEG without an end is told of there, and once more when it is decoded.
      const std::size_t lines = lines_of(outcome, p.file());
      CHECK(lines >= 2);  // once in train, once in val
      CHECK(lines <= (p.found == Found::kept ? 4 : 2));
    }
    for (const auto& [file, bytes] : sound()) CHECK(lines_of(outcome, file) == 0);
    const std::string weights =
        slurp(world().dir / "corrupt-runs" / how.substr(how.size() - 1) / "weights/last.safetensors");
    if (first.empty()) first = weights;
    CHECK(weights == first);  // whatever the number of threads, whatever the cache
  }
  const std::string val = kBin + "yolo-val --imgsz 64 --noplots --project corrupt-val --weights " +
                          (world().dir / "corrupt-runs/a/weights/best.safetensors").string() + " --data " + data.string();
  const Outcome outcome = world().run(val);
  CAPTURE(outcome.err);
  CHECK(outcome.code == 0);
  for (const CorruptImage& p : corrupt())
    if (p.found == Found::decode) CHECK_MESSAGE(lines_of(outcome, p.file()) == 1, p.file());
  const auto usable = 5 + std::ranges::count(corrupt(), Found::kept, &CorruptImage::found);
  std::istringstream words(outcome.out.substr(outcome.out.find("   all ")));
  std::string all;
  std::int64_t images = 0, instances = 0;
  words >> all >> images >> instances;
  CHECK(images == usable);
  CHECK(instances == usable);
  check_one_error(world().run(val + " --strict"), "yolo-val", "val: \033[0m/");
  check_one_error(world().run(kTrain + flags + " --strict --name d"), "yolo-train", "train: \033[0m/");
}

TEST_CASE("detectors: --strict ends a run at what only decoding finds, and the finished epoch's checkpoint stays") {
  for (const std::string split : {"train", "val"}) {
    CAPTURE(split);
    const fs::path data = detection_set("strict-" + split, [&](const std::string& s, const CorruptImage& p) {
      return s == split && p.kind == "no_quantisation";
    });
    const std::string run = kTrain + "strict-runs --exist-ok --epochs 3 --strict --name " + split + " --data ";
    check_one_error(world().run(run + data.string()), "yolo-train", "no_quantisation_jpg.jpg: cannot decode JPEG: ");
    CHECK(fs::exists(world().dir / "strict-runs" / split / "weights" / "last.safetensors") == (split == "val"));
  }
}

TEST_CASE("detectors: a resumed run stands in for bad pictures as an uninterrupted one does") {
  const fs::path data =
      detection_set("resumed", [](const std::string&, const CorruptImage& p) { return p.found == Found::decode; });
  const std::string flags = "resumed-runs --exist-ok --epochs 4 --workers 2 --save-period 1 --data " + data.string();
  REQUIRE(world().run(kTrain + flags + " --name whole").code == 0);
  const fs::path cut = world().dir / "resumed-runs" / "cut" / "weights" / "last.safetensors";
  (void)world().run(kTrain + flags + " --name cut & pid=$!; for i in $(seq 600); do test -f " + cut.string() +
                    " && break; sleep 0.05; done; kill -INT $pid; wait $pid");
  REQUIRE(fs::exists(cut));
  const Outcome resumed = world().run(kBin + "yolo-train --resume " + cut.string());
  CAPTURE(resumed.err);
  REQUIRE(resumed.code == 0);
  CHECK((slurp(world().dir / "resumed-runs/whole/weights/last.safetensors") == slurp(cut)));
  CHECK(slurp(world().dir / "resumed-runs/whole/results.csv") == slurp(world().dir / "resumed-runs/cut/results.csv"));
}

TEST_CASE("detectors: no usable picture is one line") {
  const fs::path d = world().dir / "hopeless";
  const auto set = [&](Found found) {
    fs::remove_all(d);
    for (const std::string split : {"train", "val"})
      for (const CorruptImage& p : corrupt())
        if (p.found == found) {
          testing::spill(d / "images" / split / p.file(), p.bytes);
          write(d / "labels" / split / (fs::path(p.file()).stem().string() + ".txt"), "0 0.5 0.5 0.4 0.4\n");
        }
    write(d / "data.yaml", "train: images/train\nval: images/val\nnames: [box]\n");
    return world().run(kTrain + "hopeless-runs --epochs 1 --data " + (d / "data.yaml").string());
  };
  check_one_error(set(Found::scan), "yolo-train", "train: \033[0mnone of ");
  check_one_error(set(Found::decode), "yolo-train", "none of 2 images can be decoded; the first: ");
  const fs::path weights = world().dir / "corrupt-runs/a/weights/best.safetensors";
  check_one_error(world().run(kBin + "yolo-val --imgsz 64 --noplots --project hopeless-val --weights " + weights.string() +
                              " --data " + (d / "data.yaml").string()),
                  "yolo-val", "none of 2 images can be decoded; the first: ");
}

TEST_CASE("classifiers: the same") {
  const fs::path d = world().dir / "classes";
  const auto fill = [&](auto bad) {
    fs::remove_all(d);
    for (const std::string split : {"train", "val"})
      for (const std::string cls : {"ball", "box"}) {
        for (const auto& [file, bytes] : sound()) testing::spill(d / split / cls / file, bytes);
        if (cls == "box")
          for (const CorruptImage& p : corrupt())
            if (bad(split, p)) testing::spill(d / split / cls / p.file(), p.bytes);
      }
  };
  fill([](const std::string&, const CorruptImage&) { return true; });
  REQUIRE(::mkfifo((d / "train/box/pipe.jpg").c_str(), 0600) == 0);
  const std::string train =
      kBin +
      "classify-train --model resnet18 --imgsz 32 --batch-size 4 --noplots --epochs 2 --project class-runs --exist-ok "
      "--data " +
      d.string();
  std::string first;
  for (const std::string how : {"--workers 0 --name a", "--workers 3 --name b", "--workers 2 --cache --name c"}) {
    const Outcome outcome = world().run(train + " " + how);
    CAPTURE(outcome.err);
    REQUIRE(outcome.code == 0);
    CHECK(outcome.out.find("with 2 classes") != std::string::npos);
    for (const CorruptImage& p : corrupt()) CHECK_MESSAGE(lines_of(outcome, p.file()) == 2, p.file());
    CHECK(lines_of(outcome, "pipe.jpg") == 1);
    CHECK(outcome.out.find("pipe.jpg: not a regular file") != std::string::npos);
    const std::string weights = slurp(world().dir / "class-runs" / how.substr(how.size() - 1) / "weights/last.safetensors");
    if (first.empty()) first = weights;
    CHECK(weights == first);
  }
  const fs::path weights = world().dir / "class-runs/a/weights/best.safetensors";
  const std::string val =
      kBin + "classify-val --imgsz 32 --noplots --project class-val --weights " + weights.string() + " --data " + d.string();
  const Outcome outcome = world().run(val);
  CAPTURE(outcome.err);
  REQUIRE(outcome.code == 0);
  const auto kept = std::ranges::count(corrupt(), Found::kept, &CorruptImage::found);
  std::istringstream words(outcome.out.substr(outcome.out.find("  all ")));
  std::string all;
  std::int64_t images = 0;
  words >> all >> images;
  CHECK(images == 10 + kept);
  check_one_error(world().run(val + " --strict"), "classify-val", "classify-val: /");
  check_one_error(world().run(train + " --strict --name d"), "classify-train", "classify-train: /");
  for (const std::string split : {"train", "val"}) {
    fill([&](const std::string& s, const CorruptImage& p) { return s == split && p.kind == "no_huffman"; });
    check_one_error(world().run(train + " --strict --name strict-" + split), "classify-train",
                    "no_huffman_jpg.jpg: cannot decode JPEG: ");
    CHECK(fs::exists(world().dir / "class-runs" / ("strict-" + split) / "weights/last.safetensors") == (split == "val"));
  }
  fs::remove_all(d);
  for (const std::string split : {"train", "val"})
    for (const CorruptImage& p : corrupt())
      if (p.found == Found::decode) testing::spill(d / split / "box" / p.file(), p.bytes);
  check_one_error(world().run(train + " --name hopeless"), "classify-train",
                  "none of 2 pictures can be decoded; the first: ");
  check_one_error(world().run(kBin + "classify-val --imgsz 32 --noplots --project class-val --weights " + weights.string() +
                              " --data " + d.string()),
                  "classify-val", "classes");  // one class now
}

TEST_CASE("classify-predict: a folder's bad pictures are passed over, a single one is an error") {
  const fs::path d = world().dir / "predict";
  for (const auto& [file, bytes] : sound()) testing::spill(d / file, bytes);
  for (const CorruptImage& p : corrupt()) testing::spill(d / p.file(), p.bytes);
  testing::spill(d / "._good_png.png", {1, 2, 3});
  const std::string predict = kBin + "classify-predict --imgsz 32 --project predict-runs --weights " +
                              (world().dir / "class-runs/a/weights/best.safetensors").string() + " --source ";
  const Outcome outcome = world().run(predict + d.string());
  CAPTURE(outcome.err);
  REQUIRE(outcome.code == 0);
  for (const auto& [file, bytes] : sound()) {
    CHECK(lines_of(outcome, file) == 1);
    CHECK(frost::decode_image(world().dir / "predict-runs/exp" / file).height == 40);
  }
  for (const CorruptImage& p : corrupt()) CHECK_MESSAGE(lines_of(outcome, p.file()) == 1, p.file());
  CHECK(lines_of(outcome, "._good_png.png") == 0);
  check_one_error(world().run(predict + (d / "empty_png.png").string()), "classify-predict", "the file is empty");
}
