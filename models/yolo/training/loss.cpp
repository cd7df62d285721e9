#include "models/yolo/training/loss.h"

namespace frost::yolo {

Hyp rescaled(Hyp hyp, int levels, int classes, int image_size, float label_smoothing) {
  FROST_CHECK(levels > 0 && classes > 0 && image_size > 0, "loss gains: ", levels, " levels, ", classes,
              " classes, image size ", image_size);
  const double per_level = 3.0 / levels, side = image_size / 640.0;
  hyp.set("box", hyp.box * per_level);
  hyp.set("cls", hyp.cls * classes / 80.0 * per_level);
  hyp.set("obj", hyp.obj * side * side * per_level);
  hyp.set("label_smoothing", label_smoothing);
  return hyp;
}

DetectLossGains scaled_gains(const Hyp& hyp, int levels, int classes, int image_size, float label_smoothing) {
  const Hyp r = rescaled(hyp, levels, classes, image_size, label_smoothing);
  return {.box = static_cast<float>(r.box),
          .obj = static_cast<float>(r.obj),
          .cls = static_cast<float>(r.cls),
          .cls_pw = static_cast<float>(r.cls_pw),
          .obj_pw = static_cast<float>(r.obj_pw),
          .anchor_t = static_cast<float>(r.anchor_t),
          .fl_gamma = static_cast<float>(r.fl_gamma),
          .label_smoothing = label_smoothing};
}

std::vector<float> default_balance(int levels) {
  if (levels == 3) return {4.0f, 1.0f, 0.4f};
  const std::vector<float> any{4.0f, 1.0f, 0.25f, 0.06f, 0.02f};
  FROST_CHECK(levels > 0 && levels <= static_cast<int>(any.size()), "loss balance: ", levels,
              " levels, 1 to 5 are supported");
  return {any.begin(), any.begin() + levels};
}

}  // namespace frost::yolo
