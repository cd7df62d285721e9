#pragma once
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace frost::yolo {

/// The hyperparameters of one training run, under the names that YOLOv5's files give them (docs/spec/loss.md section 9).
/// A Hyp comes from a file, a built-in file or set(); a key that was never set is 0 and is not written back.
struct Hyp {
  double lr0 = 0, lrf = 0, momentum = 0, weight_decay = 0;            // optimizer
  double warmup_epochs = 0, warmup_momentum = 0, warmup_bias_lr = 0;  // its warm-up
  double box = 0, cls = 0, cls_pw = 0, obj = 0, obj_pw = 0;           // loss gains and positive weights
  double iou_t = 0, anchor_t = 0, anchors = 0, fl_gamma = 0;          // anchors: 0 keeps the model's own
  double hsv_h = 0, hsv_s = 0, hsv_v = 0;                             // augmentation
  double degrees = 0, translate = 0, scale = 0, shear = 0, perspective = 0;
  double flipud = 0, fliplr = 0, mosaic = 0, mixup = 0, copy_paste = 0;
  double label_smoothing = 0;  // a flag of the command line; in a saved model it is in the hyp

  /// By name, for evolution and reports. Errors: an unknown key.
  double get(std::string_view key) const;
  void set(std::string_view key, double value);
  /// The keys that were set and their values, in file order.
  std::vector<std::pair<std::string, double>> items() const;

 private:
  std::vector<std::string> order_;
};

/// Reads YAML text; `source` names it in messages. Every key but `anchors` and `label_smoothing` has to be there, once, with
/// a finite number in its range. An unknown key is left out with a line in `warnings` (null: dropped silently).
Hyp parse_hyp(const std::string& text, const std::string& source, std::vector<std::string>* warnings = nullptr);

/// The file at `name`; where there is none, the built-in file of that name. `hyp.scratch-low.yaml`, `scratch-low` and any
/// path that ends in the file's name mean the same. Errors: neither exists (lists the built-in names), or parse_hyp's.
Hyp load_hyp(const std::string& name, std::vector<std::string>* warnings = nullptr);

/// `key: value` lines in file order, as PyYAML writes floats: the shortest text that reads back as the same double.
std::string hyp_yaml(const Hyp& hyp);
void write_hyp(const std::filesystem::path& file, const Hyp& hyp);

}  // namespace frost::yolo
