#include <doctest/doctest.h>

#include <filesystem>

#include "models/families/load_model.h"
#include "models/families/predict.h"
#include "models/graph/detection_model.h"
#include "tests/device.h"
#include "tests/golden/images.h"

// What the library's face promises of a model: predictions, other classes, a checkpoint that opens again.
using namespace frost;
using frost::testing::TestDevice;

TEST_CASE("predict: a classifier's probabilities, best first, for the whole image") {
  TestDevice device;
  const auto model = make_model(device, "resnet18", 5);
  const Image image = golden::smooth(80, 100);
  const std::vector<Detection> all = model->predict(image, {.imgsz = 64});
  REQUIRE(all.size() == 5);
  float sum = 0;
  for (std::size_t i = 0; i < all.size(); ++i) {
    sum += all[i].confidence;
    if (i > 0) CHECK(all[i].confidence <= all[i - 1].confidence);
    CHECK((all[i].x1 == 0 && all[i].y1 == 0 && all[i].x2 == 100 && all[i].y2 == 80));
  }
  CHECK(sum == doctest::Approx(1));
  CHECK(model->predict(image, {.imgsz = 64, .max_det = 2}).size() == 2);
  const std::vector<Detection> one = model->predict(image, {.imgsz = 64, .classes = {3}});
  REQUIRE(one.size() == 1);
  CHECK(one[0].label == 3);
}

TEST_CASE("predict: a detector's boxes lie in the image; several images; a size that is no multiple of the stride") {
  TestDevice device;
  const auto model = make_model(device, "yolov5n", 3);
  const std::vector<Image> images = {golden::noise(50, 90, "a"), golden::noise(120, 40, "b")};
  const PredictOptions options{.imgsz = 70, .conf_thres = 0, .max_det = 20};
  const auto found = model->predict(images, options);
  REQUIRE(found.size() == 2);
  Predictor predict(*model, options);
  CHECK(predict.imgsz() == 96);
  for (std::size_t i = 0; i < 2; ++i) {
    CHECK(!found[i].empty());
    for (const Detection& d : found[i]) {
      CHECK((d.x1 >= 0 && d.y1 >= 0 && d.x2 <= images[i].width && d.y2 <= images[i].height));
      CHECK((d.label >= 0 && d.label < 3));
    }
    CHECK(predict(images[i]).size() == found[i].size());
  }
  CHECK((predict.last().height == 96 && predict.last().width == 32));
  CHECK_THROWS_AS(model->predict(Image()), Error);
}

TEST_CASE("other classes: a new last layer, and a checkpoint that opens with it") {
  TestDevice device;
  const std::filesystem::path file = std::filesystem::temp_directory_path() / "frost-predict-test.safetensors";
  for (const char* architecture : {"yolov5n", "resnet18"}) {
    CAPTURE(architecture);
    const auto model = make_model(device, architecture, 4);
    const std::vector<float> first = model->parameters().front()->value.to_vector();
    model->freeze({"backbone"});
    model->set_classes({"red", "blue"});
    CHECK(model->classes() == 2);
    CHECK(model->parameters().front()->value.to_vector() == first);
    CHECK_FALSE(model->parameters().front()->trainable);
    model->save(file);
    const auto again = load_model(device, file.string());
    CHECK(again->names == std::vector<std::string>{"red", "blue"});
    const Image image = golden::smooth(64, 64);
    const PredictOptions options{.imgsz = 64, .conf_thres = 0, .max_det = 5};
    const auto a = model->predict(image, options), b = again->predict(image, options);
    REQUIRE(a.size() == b.size());
    for (std::size_t i = 0; i < a.size(); ++i) CHECK((a[i].confidence == b[i].confidence && a[i].label == b[i].label));
  }
  std::filesystem::remove(file);

  auto model = make_model(device, "yolov5n", 80);
  model->set_classes({"a", "b", "c"});
  auto& changed = dynamic_cast<DetectionModel&>(*model);
  const DetectionModel built(device, load_model_spec("yolov5n.yaml", 3));
  CHECK(changed.table() == built.table());
}
