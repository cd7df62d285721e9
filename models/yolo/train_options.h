#pragma once
#include <filesystem>
#include <string>

#include "models/yolo/trainer.h"

namespace frost::yolo {

/// "weights=yolov5s.pt, cfg=, data=..., ...": what the tool prints first.
std::string train_options_line(const TrainConfig& config);

/// opt.yaml of a run: all options in YOLOv5's order, frost's own after them.
void write_train_options(const std::filesystem::path& file, const TrainConfig& config,
                         const std::filesystem::path& run_folder);

/// The options of an earlier run, to resume it. Throws Error naming the file and the key.
TrainConfig read_train_options(const std::filesystem::path& file);

}  // namespace frost::yolo
