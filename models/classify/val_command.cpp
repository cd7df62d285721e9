#include "models/classify/val_command.h"

#include <fmt/format.h>

#include <algorithm>

#include "engine/base/interrupt.h"
#include "engine/data/epoch_order.h"
#include "engine/report/run_folder.h"
#include "engine/report/text.h"
#include "engine/tensor/run_device.h"
#include "models/classify/validator.h"
#include "models/classify/weights.h"
#include "models/slim/prune.h"
#include "models/zoo/weights.h"

namespace frost::classify {
namespace {

namespace fs = std::filesystem;

/// The model must have as many classes as the data. Other names, where the file says names at all, are a warning.
void check_classes(const Classifier& model, const ImageFolder& data, const std::string& weights, Observer& observer) {
  FROST_CHECK(model.classes() == static_cast<int>(data.classes.size()), weights, ": ", model.classes(), " classes, ",
              data.folder.string(), " has ", data.classes.size());
  const bool unnamed = model.names[0] == "0";
  const auto [ours, theirs] = std::mismatch(data.classes.begin(), data.classes.end(), model.names.begin());
  if (!unnamed && ours != data.classes.end())
    observer.notice(fmt::format("WARNING: {}: class {} is '{}', in {} it is '{}'\n", weights, ours - data.classes.begin(),
                                *theirs, data.folder.string(), *ours));
}

}  // namespace

fs::path run_validation(const ValConfig& config, Observer& observer) {
  FROST_CHECK(!config.data.empty() && !config.weights.empty(), "--weights and --data are needed");
  const RunDevice run(config.device, config.half ? "half" : config.precision, {config.deterministic, config.tf32});
  Device& device = *run.device;
  observer.notice(fmt::format(
      "{}data={}, weights={}, batch_size={}, imgsz={}, device={}, workers={}, verbose={}, project={}, name={}\n{}\n\n",
      bold_blue("classify/val: "), config.data, config.weights, config.batch_size, config.imgsz, config.device,
      config.workers, config.verbose, config.project.string(), config.name, run.line));
  const std::unique_ptr<Classifier> model = load_classifier(device, find_weights(config.weights, observer));
  const int imgsz = Classifier::whole_strides(config.imgsz, observer);
  observer.notice(fmt::format("{}\n", model->summary(imgsz)));
  if (const std::string line = slim::sparsity_line(slim::sparsity(*model)); !line.empty())
    observer.notice(fmt::format("{}\n", line));
  const DataSplits data = find_val_split(config.data, model->names);
  report_scan(data.val, config.strict, observer);
  check_classes(*model, data.val, config.weights, observer);
  model->names = data.val.classes;

  const auto faults = std::make_shared<ImageFaults>(data.val.size());
  const auto loader = make_image_loader(std::make_shared<ImageFolder>(data.val),
                                        {.side = imgsz,
                                         .batch_size = config.batch_size,
                                         .square = model->preprocessing().framing == Preprocessing::Framing::square,
                                         .threads = worker_count(config.workers, config.batch_size),
                                         .faults = faults});
  const fs::path folder = make_run_folder(config.project, config.name, config.exist_ok);
  ValidateOptions options{.compute = run.compute,
                          .cuda_graph = config.cuda_graph,
                          .label = data.val_name == "test" ? "testing" : "validating",
                          .observer = observer,
                          .batch_done = {}};
  if (!config.noplots) options.batch_done = first_image_grid(folder, model->names);
  const InterruptGuard guard;
  const Accuracy accuracy = validate(device, *model, *loader, options);
  for (const std::string& fault : faults->take()) {
    if (config.strict) fail(fault);
    observer.notice(fmt::format("WARNING ⚠️ {}\n", fault));
  }
  FROST_CHECK(accuracy.all().images > 0, data.val.folder.string(), ": none of ", data.val.size(),
              " pictures can be decoded; the first: ", faults->first_cause());
  if (config.verbose) {
    observer.notice(accuracy_table(accuracy, model->names));
    if (model->classes() <= 10) observer.notice(fmt::format("\n{}", confusion_table(accuracy, model->names)));
    observer.notice(fmt::format("{}\n", speed_line(accuracy, imgsz)));
  }
  write_confusion(folder / "confusion_matrix.csv", accuracy, model->names);
  observer.notice(fmt::format("Results saved to {}\n", bold(folder.string())));
  return folder;
}

}  // namespace frost::classify
