#pragma once
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "models/yolo/data/batches.h"
#include "models/yolo/evaluation/metrics.h"

namespace frost::yolo {

/// An image grid of a training batch with its boxes: train_batch0.jpg.
void write_training_grid(const std::filesystem::path& file, const DetectionBatch& batch,
                         const std::vector<std::string>& names);

/// For ValidateOptions::batch_done: writes val_batch<k>_labels.jpg and val_batch<k>_pred.jpg of the first three batches.
std::function<void(std::int64_t, const DetectionBatch&, const std::vector<std::vector<Detection>>&)> validation_grids(
    const std::filesystem::path& folder, const std::vector<std::string>& names);

}  // namespace frost::yolo
