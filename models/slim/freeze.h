#pragma once
#include <string>
#include <vector>

#include "models/graph/detection_model.h"

namespace frost::slim {

/// What layer numbers mean in a model: for each layer the beginnings of its parameters' names (YOLOv5: "model.3."; a
/// ResNet's layer may have several), and how many of the first layers are its backbone.
struct LayerNames {
  std::vector<std::vector<std::string>> prefixes;
  int backbone = 0;
  int count() const { return static_cast<int>(prefixes.size()); }
};
LayerNames layer_names(const DetectionModel& model);

/// One term of --freeze or --lr-scale:
///   7                exactly layer 7
///   10-23            layers 10 to 23
///   backbone         the layers of the backbone
///   model.24         that module, or that parameter; model.0-9: the modules model.0 to model.9
///   model.*.bn.*     parameter names: * stands for any text, ? for one character
/// Returns its parameters, in model order; a layer without parameters gives none. Throws Error, beginning with `option`, for
/// a layer that does not exist and for names that fit nothing, with the names that are nearest.
std::vector<Parameter*> select(Module& model, const LayerNames& layers, const std::string& term, const std::string& option);

/// The parameters that --freeze names (spec/freeze_prune.md 1.1, and beyond it): one number N alone means the layers 0 to
/// N-1; several terms mean what any of them names; !term takes away what it names, from the others or, where there are none,
/// from the whole model: "!24" is everything but layer 24. Throws Error as select does, and where nothing is named.
std::vector<Parameter*> frozen_parameters(Module& model, const LayerNames& layers, const std::vector<std::string>& terms,
                                          const std::string& option = "--freeze");

/// Every parameter trains, except those that --freeze names. Returns the frozen names, in model order.
std::vector<std::string> freeze(Module& model, const LayerNames& layers, const std::vector<std::string>& terms,
                                const std::string& option = "--freeze");

/// How many edits take `text` to something that `pattern` (*, ?) stands for; 0: it fits.
int glob_distance(const std::string& pattern, const std::string& text);

}  // namespace frost::slim
