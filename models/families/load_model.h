#pragma once
#include <memory>
#include <string>

#include "models/model.h"

namespace frost {

/// Opens any checkpoint of any family: a .safetensors of frost, a YOLOv5 .pt (detector or classifier), torchvision's .pth,
/// or a released name such as yolov5n.pt; the content decides. Throws Error: one line with the file and the cause.
std::unique_ptr<Model> load_model(Device& device, const std::string& file);

/// The same with all else that the file says.
StoredModel read_model(Device& device, const std::string& file);

}  // namespace frost
