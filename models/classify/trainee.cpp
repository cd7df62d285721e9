#include "models/classify/trainee.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <map>

#include "models/classify/step.h"
#include "models/classify/validator.h"

namespace frost::classify {
namespace {

class ClassificationTrainee final : public slim::Trainee {
 public:
  ClassificationTrainee(Device& device, std::unique_ptr<Classifier> model, const TraineeOptions& options)
      : device_(device),
        model_(std::move(model)),
        options_(options),
        normalise_(device, model_->preprocessing()),
        pixels_(slim::noise(device.backend(), static_cast<std::size_t>(images(2).elements()))) {
    Rng rng(0);
    for (int i = 0; i < 2 * options.batch_size; ++i) labels_.push_back(rng.below(model_->classes()));
  }

  Module& model() override { return *model_; }
  std::vector<Row> rows() override {
    std::map<std::string, Module*> modules;
    model_->walk([&](const std::string& name, Module& module) { modules[name + "."] = &module; });
    std::vector<Row> rows;
    for (const auto& prefixes : model_->layers().prefixes) {
      const auto module = modules.find(prefixes[0]);
      const bool one = prefixes.size() == 1 && module != modules.end();
      rows.push_back({row_name(prefixes), one ? type_of(*module->second) : "stage", prefixes});
    }
    return rows;
  }
  void step() override {
    const Tensor input = network_input(device_, pixels_, images(1), normalise_, options_.compute);
    const std::vector<std::int64_t> labels(labels_.begin(), labels_.begin() + options_.batch_size);
    train_step({.device = device_, .frozen_bn = options_.frozen_bn, .compute = options_.compute}, *model_, input, labels,
               0.1f, options_.recompute);
  }
  void validate() override {  // twice the batch
    const Tensor input = network_input(device_, pixels_, images(2), normalise_, options_.compute);
    Context context{.device = device_, .compute = options_.compute};
    const Tensor logits = model_->forward(context, {input, -1, nullptr}).value;
    cross_entropy(device_, logits, labels_, 0.1f);
  }

 private:
  Shape images(std::int64_t batches) const { return {batches * options_.batch_size, options_.imgsz, options_.imgsz, 3}; }
  /// As --freeze takes it where it can: "layer1", "features.0-4"; "conv1, bn1".
  static std::string row_name(const std::vector<std::string>& prefixes) {
    std::vector<std::string> names;
    for (const std::string& prefix : prefixes) names.push_back(prefix.substr(0, prefix.size() - 1));
    const std::string &first = names.front(), &last = names.back();
    const std::size_t dot = first.rfind('.');
    if (names.size() > 1 && dot != std::string::npos && last.starts_with(first.substr(0, dot + 1)))
      return first + "-" + last.substr(dot + 1);
    return fmt::format("{}", fmt::join(names, ", "));
  }
  static std::string type_of(Module& module) {
    if (dynamic_cast<Conv2d*>(&module)) return "Conv2d";
    if (dynamic_cast<Linear*>(&module)) return "Linear";
    if (dynamic_cast<ConvNormAct*>(&module)) return "Conv";
    return dynamic_cast<Sequential*>(&module) ? "stage" : "block";
  }

  Device& device_;
  std::unique_ptr<Classifier> model_;
  TraineeOptions options_;
  Normaliser normalise_;
  std::vector<std::uint8_t> pixels_;
  std::vector<std::int64_t> labels_;
};

}  // namespace

slim::BuildTrainee classification_trainee(MakeClassifier make, std::function<void(Classifier&)> freeze,
                                          const TraineeOptions& options) {
  return [make = std::move(make), freeze = std::move(freeze), options](Device& device) -> std::unique_ptr<slim::Trainee> {
    std::unique_ptr<Classifier> model = make(device);
    freeze(*model);
    return std::make_unique<ClassificationTrainee>(device, std::move(model), options);
  };
}

}  // namespace frost::classify
