#include "models/yolo/evaluation/image_grids.h"

#include <algorithm>

#include "engine/image/codec.h"
#include "models/yolo/boxes.h"
#include "models/yolo/evaluation/plots.h"

namespace frost::yolo {
namespace {

constexpr std::int64_t kMost = 16;

// The batch's first pictures, B G R again, without boxes.
std::vector<GridImage> grid_images(const DetectionBatch& batch) {
  std::vector<GridImage> images;
  for (std::int64_t i = 0; i < std::min(batch.n, kMost); ++i) {
    GridImage item{.image = Image(static_cast<int>(batch.h), static_cast<int>(batch.w)),
                   .title = std::filesystem::path(batch.paths[static_cast<std::size_t>(i)]).filename().string()};
    const std::uint8_t* rgb = batch.image(i);
    std::uint8_t* bgr = item.image.pixels.data();
    for (std::int64_t p = 0; p < batch.h * batch.w * 3; p += 3)
      bgr[p] = rgb[p + 2], bgr[p + 1] = rgb[p + 1], bgr[p + 2] = rgb[p];
    images.push_back(std::move(item));
  }
  return images;
}

std::vector<GridImage> labelled(std::vector<GridImage> images, const DetectionBatch& batch) {
  const auto w = static_cast<float>(batch.w), h = static_cast<float>(batch.h);
  for (std::int64_t t = 0; t < batch.target_count(); ++t) {
    const float* row = &batch.targets[static_cast<std::size_t>(t) * 6];
    const auto image = static_cast<std::size_t>(row[0]);
    if (image >= images.size()) continue;
    images[image].boxes.push_back(
        {.box = xyxy_of(BoxXywh{row[2] * w, row[3] * h, row[4] * w, row[5] * h}), .label = static_cast<int>(row[1])});
  }
  return images;
}

}  // namespace

void write_training_grid(const std::filesystem::path& file, const DetectionBatch& batch,
                         const std::vector<std::string>& names) {
  write_jpeg(file, draw_image_grid(labelled(grid_images(batch), batch), names));
}

std::function<void(std::int64_t, const DetectionBatch&, const std::vector<std::vector<Detection>>&)> validation_grids(
    const std::filesystem::path& folder, const std::vector<std::string>& names) {
  return [=](std::int64_t k, const DetectionBatch& batch, const std::vector<std::vector<Detection>>& detections) {
    if (k >= 3) return;
    const std::string name = "val_batch" + std::to_string(k);
    std::vector<GridImage> images = grid_images(batch);
    write_jpeg(folder / (name + "_labels.jpg"), draw_image_grid(labelled(images, batch), names));
    for (std::size_t i = 0; i < images.size(); ++i)
      for (const Detection& d : detections[i])
        images[i].boxes.push_back({.box = box_of(d), .label = d.label, .confidence = d.confidence});
    write_jpeg(folder / (name + "_pred.jpg"), draw_image_grid(images, names));
  };
}

}  // namespace frost::yolo
