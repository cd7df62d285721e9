#include "models/yolo/anchors.h"

#include <algorithm>

namespace frost::yolo {

AnchorFit anchor_fit(const std::vector<float>& anchors, const std::vector<LabeledImage>& images, int imgsz, double limit) {
  double boxes = 0, recalled = 0, within = 0;
  for (const LabeledImage& image : images) {
    const double scale = static_cast<double>(imgsz) / std::max(image.width, image.height);
    for (const LabelRow& row : image.rows) {
      const double w = static_cast<double>(row.w) * image.width * scale,
                   h = static_cast<double>(row.h) * image.height * scale;
      double best = 0;
      for (std::size_t a = 0; a + 1 < anchors.size(); a += 2) {
        const double rw = w / anchors[a], rh = h / anchors[a + 1];
        const double fit = std::min(std::min(rw, 1 / rw), std::min(rh, 1 / rh));
        best = std::max(best, fit);
        within += fit > 1 / limit;
      }
      recalled += best > 1 / limit;
      boxes += 1;
    }
  }
  if (boxes == 0) return {};
  return {recalled / boxes, within / boxes};
}

}  // namespace frost::yolo
