#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "engine/report/observer.h"
#include "models/model.h"

namespace frost {

/// Opens any checkpoint of any family: a .safetensors of frost, a YOLOv5 .pt (detector or classifier), torchvision's .pth,
/// or a released name such as yolov5n.pt; the content decides. Throws Error: one line with the file and the cause.
/// A released file that is not found is downloaded; `observer` is told.
std::unique_ptr<Model> load_model(Device& device, const std::string& file, Observer& observer = silence());

/// A model with fresh weights: a classifier such as "resnet18" (classify::classifier_names), or a detector by its YAML,
/// which is a file or built in ("yolov5n"). Without `classes`: the 1000 of ImageNet, or the YAML's. Throws Error for an
/// unknown name.
std::unique_ptr<Model> make_model(Device& device, const std::string& architecture, std::optional<int> classes = {},
                                  std::uint64_t seed = 0);

/// Like load_model, with everything else that the file contains.
StoredModel read_model(Device& device, const std::string& file, Observer& observer = silence());

}  // namespace frost
