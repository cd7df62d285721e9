#include "models/yolo/pictures.h"

namespace frost::yolo {
void write_training_sheet(const std::filesystem::path&, const DetectionBatch&, const std::vector<std::string>&) {}
std::function<void(std::int64_t, const DetectionBatch&, const std::vector<std::vector<Detection>>&)> validation_sheets(
    const std::filesystem::path&, const std::vector<std::string>&) { return {}; }
}  // namespace frost::yolo
