#pragma once
#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>

#include "models/yolo/data/data_config.h"
#include "models/yolo/evaluation/validator.h"
#include "tests/golden/golden.h"

/// The 128 photos of coco128 and what val.py says about them (golden/README.md G).
namespace frost::golden {

inline nlohmann::json coco128_reference() {
  std::ifstream in(dir() / "coco128_yolov5n.json");
  return nlohmann::json::parse(in);
}

/// `order`: names of the images in which val.py took those of equal aspect ratio; its unstable sort decides which of them
/// share a batch, and so some images' shape.
inline yolo::ValidationResult validate_coco128(Device& device, DetectionModel& model, int imgsz,
                                               yolo::ValidateOptions options = {},
                                               const std::vector<std::string>& order = {}) {
  const auto shared = shared_dir();
  const yolo::DataConfig data = yolo::load_data_config((shared / "data" / "coco128" / "coco128.yaml").string());
  std::string cache = (std::filesystem::temp_directory_path() / "frost-coco128-XXXXXX").string();
  if (!mkdtemp(cache.data())) throw std::runtime_error("no temporary folder");
  yolo::LabelSet labels = yolo::scan_labels(data.val, {.cache_dir = cache});
  std::filesystem::remove_all(cache);
  const auto place = [&](const yolo::LabeledImage& image) {
    return std::find(order.begin(), order.end(), std::filesystem::path(image.path).stem().string()) - order.begin();
  };
  if (!order.empty()) std::ranges::stable_sort(labels.images, {}, place);
  auto dataset = std::make_shared<yolo::DetectionDataset>(
      std::move(labels), yolo::DatasetOptions{.imgsz = imgsz, .batch_size = 16, .stride = 32, .pad = 0.5, .rect = true});
  const auto loader = yolo::make_loader(dataset, {.threads = 1});
  return yolo::validate(device, model, *loader, options);
}

}  // namespace frost::golden
