#include <nlohmann/json.hpp>

#include "engine/image/codec.h"
#include "tests/golden/golden.h"
#include "tests/tools/world.h"

// yolo-detect, end to end: what it prints and writes, and YOLOv5's own detections on photographs.
using namespace frost::tests;

namespace {

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

/// A detector that has learnt for an epoch: of low confidence, but sure to find something at --conf 0.
std::string weights() {
  static const bool trained = world().train("--cfg yolov5n.yaml --weights '' --project detector --name exp").code == 0;
  REQUIRE(trained);
  return "detector/exp/weights/last.safetensors";
}

}  // namespace

TEST_CASE("yolo-detect: a folder of pictures; what is printed and what is written") {
  const std::string pictures = (world().dir / "shapes/images/val").string();
  const Outcome all = world().run(kBin + "yolo-detect --weights " + weights() + " --source " + pictures +
                                  " --imgsz 64 --conf 0 --max-det 3 --save-txt --save-conf --save-crop --project found");
  CAPTURE(all.err);
  CAPTURE(all.out);
  REQUIRE(all.code == 0);
  CHECK(has(all.out, "detect: "));
  CHECK(has(all.out, "image 1/4 " + pictures + "/0000.jpg: 64x64 "));
  CHECK(has(all.out, "NMS per image at shape (1, 3, 64, 64)"));
  CHECK(has(all.out, "4 labels saved to found/exp/labels"));
  const fs::path exp = world().dir / "found/exp";
  CHECK(frost::decode_image(exp / "0003.jpg").width == 96);
  std::istringstream lines(slurp(exp / "labels/0000.txt"));
  double before = 0, label, x, y, w, h, confidence;
  int count = 0;
  for (; lines >> label >> x >> y >> w >> h >> confidence; before = confidence, ++count) {
    CHECK(confidence >= before);                                                 // the least confident first
    CHECK(x * 96 * 2 == doctest::Approx(std::round(x * 96 * 2)).epsilon(1e-4));  // of whole pixels
  }
  CHECK(count == 3);
  CHECK(fs::exists(exp / "crops"));

  const Outcome none = world().run(kBin + "yolo-detect --weights " + weights() + " --source " + pictures +
                                   "/0001.jpg --imgsz 60 --conf 1 --nosave --project found --name none");
  CHECK(none.code == 0);
  CHECK(has(none.out, "--img-size 60 must be multiple of max stride 32, updating to 64"));
  CHECK(has(none.out, "/0001.jpg: 64x64 (no detections), "));
  CHECK_FALSE(has(none.out, "Results saved"));
}

TEST_CASE("yolo-detect: what it refuses") {
  expect_error(world().run(kBin + "yolo-detect --weights " + weights() + " --source nowhere --project unmade"),
               "yolo-detect", {"nowhere: not found"});
  CHECK_FALSE(fs::exists(world().dir / "unmade"));
  expect_error(world().run(kBin + "yolo-detect --weights " + weights() + " --source shapes --classes 99"), "yolo-detect",
               {"--classes 99", "has classes 0 to 3"});
  expect_error(world().run(kBin + "yolo-detect --source shapes --weights none.pt"), "yolo-detect", {"none.pt"});
}

TEST_CASE("yolo-detect: the published yolov5n on photographs finds what YOLOv5's detect.py finds") {
  if (!frost::golden::have("weights/yolov5n.pt") || !frost::golden::have("data/coco128")) return;
  const fs::path shared = frost::golden::shared_dir(), pictures = shared / "data/coco128/images/train2017";
  std::ifstream in(frost::golden::dir() / "coco128_detect.json");
  const auto expected = nlohmann::json::parse(in)["images"];
  for (const auto& [name, rows] : expected.items()) {
    CAPTURE(name);
    const Outcome outcome = world().run(kBin + "yolo-detect --weights " + (shared / "weights/yolov5n.pt").string() +
                                        " --source " + (pictures / name).string() +
                                        " --nosave --save-txt --save-conf --precision f32 --project photos --exist-ok");
    CAPTURE(outcome.err);
    REQUIRE(outcome.code == 0);
    std::istringstream lines(slurp(world().dir / "photos/exp/labels" / (fs::path(name).stem().string() + ".txt")));
    std::size_t row = 0;
    for (std::array<double, 6> values; lines >> values[0] >> values[1] >> values[2] >> values[3] >> values[4] >> values[5];
         ++row) {
      REQUIRE(row < rows.size());
      const auto close = [&](std::size_t k, double pixels) {
        return std::abs(values[k] - rows[row][k].get<double>()) <= pixels / 300;  // an edge that rounds the other way
      };
      CHECK(values[0] == rows[row][0].get<double>());
      for (const std::size_t k : {1, 2, 3, 4}) CHECK(close(k, 1));
      CHECK(values[5] == doctest::Approx(rows[row][5].get<double>()).epsilon(2e-3));
    }
    CHECK(row == rows.size());
  }
}
