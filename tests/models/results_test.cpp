#include "models/yolo/evaluation/results.h"

#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <set>

using namespace frost;
using namespace frost::yolo;
namespace fs = std::filesystem;

namespace {
std::string read(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}
}  // namespace

TEST_CASE("results: console rows as the page shows them") {
  CHECK(metrics_header() == "                 Class     Images  Instances          P          R      mAP50   mAP50-95");
  CHECK(metrics_row("all", 2, 7, 0.9421, 0.6667, 0.6633, 0.5174) ==
        "                   all          2          7      0.942      0.667      0.663      0.517");
  CHECK(metrics_row("person", 2, 5, 0.995, 1, 0.995, 0.655) ==
        "                person          2          5      0.995          1      0.995      0.655");
  CHECK(metrics_row("a", 1, 1, 0, 0.0000123, 0.1, 1e-4) ==
        "                     a          1          1          0   1.23e-05        0.1     0.0001");
  CHECK(speed_line(0.34, 367.42, 14.25, 32, 640) ==
        "Speed: 0.3ms pre-process, 367.4ms inference, 14.2ms NMS per image at shape (32, 3, 640, 640)");
  DetectionSummary s;
  s.images = 2, s.instances = 7, s.classes.resize(1);
  s.classes[0].label = 1, s.classes[0].instances = 7;
  CHECK(metrics_table(s, {"a", "b"}, false) == metrics_row("all", 2, 7, 0, 0, 0, 0) + "\n");
  CHECK(metrics_table(s, {"a", "b"}, true) ==
        metrics_row("all", 2, 7, 0, 0, 0, 0) + "\n" + metrics_row("b", 2, 7, 0, 0, 0, 0) + "\n");
}

TEST_CASE("results: label files") {
  const Detection d{10, 20, 30, 60, 0.123456789f, 7};
  CHECK(label_line(d, 640, 480, false) == "7 0.03125 0.0833333 0.03125 0.0833333");
  CHECK(label_line(d, 640, 480, true) == "7 0.03125 0.0833333 0.03125 0.0833333 0.123457");
  const auto file = fs::temp_directory_path() / "frost_results_test.txt";
  fs::remove(file);
  append_label_file(file, {}, 640, 480, false);
  CHECK(!fs::exists(file));
  const std::vector<Detection> two{d, d};
  append_label_file(file, two, 640, 480, false);
  append_label_file(file, std::vector<Detection>{d}, 640, 480, true);
  const std::string line = label_line(d, 640, 480, false);
  CHECK(read(file) == line + "\n" + line + "\n" + line + " 0.123457\n");
  fs::remove(file);
  CHECK_THROWS_AS(append_label_file("/nowhere/at/all.txt", two, 640, 480, true), Error);
}

TEST_CASE("results: numbers as Python rounds and prints them") {
  CHECK(rounded_number(12, 3) == "12.0");
  CHECK(rounded_number(12.3456, 3) == "12.346");
  CHECK(rounded_number(0.0625, 3) == "0.062");  // an exact tie: to even
  CHECK(rounded_number(0.1875, 3) == "0.188");
  CHECK(rounded_number(2.675, 2) == "2.67");  // as binary just below the tie
  CHECK(rounded_number(100, 3) == "100.0");
  CHECK(rounded_number(-0.0001, 3) == "-0.0");
  CHECK(rounded_number(0.00012, 5) == "0.00012");
  CHECK(rounded_number(0.00001, 5) == "1e-05");
  CHECK(rounded_number(0.000094, 5) == "9e-05");
  CHECK(rounded_number(0.0001, 5) == "0.0001");
}

TEST_CASE("results: COCO categories") {
  std::set<int> ids;
  for (int i = 0; i < 80; ++i) ids.insert(coco_category(i));
  CHECK(ids.size() == 80);
  for (const int gap : {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}) CHECK(ids.count(gap) == 0);
  CHECK(*ids.begin() == 1);
  CHECK(*ids.rbegin() == 90);
  CHECK(coco_category(10) == 11);
  CHECK(coco_category(11) == 13);
  CHECK(coco_category(79) == 90);
  CHECK_THROWS_AS(coco_category(80), Error);
}

TEST_CASE("results: predictions for COCO's evaluation") {
  CocoPredictions coco(true), own(false);
  CHECK(coco.json() == "[]");
  const std::vector<Detection> d{{10, 20.5f, 30.125f, 60, 0.123456f, 11}, {0, 0, 1, 1, 1, 0}};
  coco.add_image("000000000139", d);
  CHECK(coco.json() == R"([{"image_id": 139, "category_id": 13, "bbox": [10.0, 20.5, 20.125, 39.5], "score": 0.12346}, )"
                       R"({"image_id": 139, "category_id": 1, "bbox": [0.0, 0.0, 1.0, 1.0], "score": 1.0}])");
  own.add_image("000", std::vector<Detection>{d[1]});
  own.add_image(
      "a\"\xc3\xbc"
      "1",
      std::vector<Detection>{d[0]});
  own.add_image("empty", {});
  CHECK(own.json() ==
        R"([{"image_id": 0, "category_id": 0, "bbox": [0.0, 0.0, 1.0, 1.0], "score": 1.0}, )"
        R"({"image_id": "a\"\u00fc1", "category_id": 11, "bbox": [10.0, 20.5, 20.125, 39.5], "score": 0.12346}])");
  CHECK(nlohmann::json::parse(own.json()).size() == 2);
  const auto file = fs::temp_directory_path() / "frost_results_test.json";
  own.write(file);
  CHECK(read(file) == own.json());
  fs::remove(file);
}
