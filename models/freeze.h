#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "engine/nn/module.h"

namespace frost {

/// What layer numbers mean in a model: for each layer the beginnings of its parameters' names (YOLOv5: "model.3."; a
/// ResNet's layer may have several), and how many of the first layers are its backbone.
struct LayerNames {
  std::vector<std::vector<std::string>> prefixes;
  int backbone = 0;
  int count() const { return static_cast<int>(prefixes.size()); }
};

/// One term of --freeze or --lr-scale:
///   7                exactly layer 7
///   10-23            layers 10 to 23
///   backbone         the layers of the backbone
///   model.24         that module, or that parameter; model.0-9: the modules model.0 to model.9
///   model.*.bn.*     parameter names: * matches any text, ? one character
/// Returns its parameters, in model order; a layer without parameters gives none. Throws Error, beginning with `option`, for
/// a layer that does not exist and for a name that matches nothing; the message lists similar names.
std::vector<Parameter*> select(Module& model, const LayerNames& layers, const std::string& term, const std::string& option);

/// The parameters that --freeze names (docs/spec/freeze_prune.md section 1.1, and beyond it): one number N alone means the
/// layers 0 to N-1. Several terms together mean everything that any of them names. !term removes what it names from the
/// other terms, or from the whole model if there are none: "!24" is everything but layer 24. Throws Error as select does,
/// and where nothing is named.
std::vector<Parameter*> frozen_parameters(Module& model, const LayerNames& layers, const std::vector<std::string>& terms,
                                          const std::string& option = "--freeze");

/// Every parameter trains, except those that --freeze names. Returns the frozen names, in model order.
std::vector<std::string> freeze(Module& model, const LayerNames& layers, const std::vector<std::string>& terms,
                                const std::string& option = "--freeze");

/// "frozen: 99 of 177 tensors, 1046368 of 1872157 parameters"
std::string freeze_summary(Module& model);

/// One stage of --unfreeze-at EPOCH:TERMS: from that epoch on only what the terms name is frozen.
struct UnfreezeStage {
  std::int64_t epoch = 0;
  std::vector<std::string> freeze;
  std::string text;  // as written: "5:6", "8:0", "3:0-4,9"
};
/// Reads the stages and tries them on the model, starting from `frozen` (--freeze). Afterwards the model's flags are those
/// of freeze(frozen). Throws Error for a stage that cannot be read, does not follow the one before, unfreezes nothing, or
/// would freeze what trains already.
std::vector<UnfreezeStage> unfreeze_stages(Module& model, const LayerNames& layers, const std::vector<std::string>& texts,
                                           const std::vector<std::string>& frozen);

/// --lr-scale TERM:SCALE, several: the learning rate of what the term names (see select) is the schedule's times SCALE; of
/// two terms that name a parameter the later one counts. Returns a line for each, to print. Throws Error for a scale that is
/// not a positive number.
std::vector<std::string> scale_learning_rates(Module& model, const LayerNames& layers,
                                              const std::vector<std::string>& texts);

/// The number of edits after which `text` matches `pattern` (*, ?); 0: it matches.
int glob_distance(const std::string& pattern, const std::string& text);

}  // namespace frost
