#pragma once
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "engine/checkpoint/host_tensor.h"
#include "engine/checkpoint/safetensors.h"
#include "models/classify/classifier.h"

namespace frost::classify {

/// What a file of weights holds, whichever program wrote it.
struct ClassifierWeights {
  std::string file;
  std::string architecture;        // "resnet18"; "" where the tensors' names do not say
  StateDict state;                 // without averages and optimizer state
  std::vector<std::string> names;  // of the classes; empty: not said
  bool detector = false;           // a YOLOv5 detector: its backbone can be used
  bool own = false;                // frost's own classifier: its filters may have been pruned
  Metadata metadata{};             // all of a .safetensors
  std::string yaml_text, yaml_file;
  int cutoff = 10;
};

/// Reads a .pth of torchvision (a state dict, zip or legacy), a YOLOv5 .pt (classifier or detector) or frost's own
/// .safetensors; the content decides. Throws Error, one line with the file and the cause.
ClassifierWeights read_classifier_weights(const std::filesystem::path& file);

/// How many classes the file's head has. Throws Error where it holds no classifier.
int class_count(const ClassifierWeights& weights);

/// A model of the file's architecture, with fresh weights; `cutoff` is for detectors. Where filters were pruned it is as
/// narrow as the file's tensors. Throws Error where they do not fit each other.
std::unique_ptr<Classifier> build_classifier(Device& device, const ClassifierWeights& weights, int classes, Seed seed,
                                             int cutoff);

/// Copies the weights into a model. Its head stays fresh where the file has another number of classes, where `new_head` asks
/// for it, and where the file is a detector's. Everything else must fit: Error lists missing (a head among them) and
/// unexpected names.
/// Returns what there is to say, a line each.
std::vector<std::string> take_weights(Classifier& model, const ClassifierWeights& weights, bool new_head = false);

/// The model of a file with its weights and names, for validation and prediction.
std::unique_ptr<Classifier> classifier_of(Device& device, const ClassifierWeights& weights);
std::unique_ptr<Classifier> load_classifier(Device& device, const std::filesystem::path& file);

}  // namespace frost::classify
