#include "models/yolo/evaluation/val_command.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "engine/report/run_folder.h"
#include "engine/report/text.h"
#include "engine/tensor/run_device.h"
#include "models/slim/prune.h"
#include "models/yolo/data/data_config.h"
#include "models/yolo/data/scan.h"
#include "models/yolo/evaluation/image_grids.h"
#include "models/yolo/evaluation/results.h"
#include "models/yolo/evaluation/validator.h"
#include "models/yolo/model_io.h"
#include "models/zoo/weights.h"

namespace frost::yolo {
namespace {

const char* truth(bool value) { return value ? "True" : "False"; }

std::string options_line(const ValConfig& c) {
  return fmt::format(
      "data={}, weights=['{}'], batch_size={}, imgsz={}, conf_thres={}, iou_thres={}, max_det={}, task={}, device={}, "
      "workers={}, single_cls={}, verbose={}, save_txt={}, save_conf={}, save_json={}, project={}, name={}, exist_ok={}, "
      "half={}, precision={}, prune={}",
      c.data, c.weights, c.batch_size, c.imgsz, c.conf_thres, c.iou_thres, c.max_det, c.task, c.device, c.workers,
      truth(c.single_cls), truth(c.verbose), truth(c.save_txt), truth(c.save_conf), truth(c.save_json), c.project.string(),
      c.name, truth(c.exist_ok), truth(c.half), c.precision, c.prune);
}

/// The two rows side by side: what the zeros cost.
std::string before_and_after(const ValidationResult& dense, const ValidationResult& pruned) {
  std::string text = fmt::format("{:>11}{:>11}{:>11}{:>11}{:>11}\n", "", "P", "R", "mAP50", "mAP50-95");
  for (const auto& [name, r] : {std::pair{"dense", &dense}, std::pair{"pruned", &pruned}})
    text += fmt::format("{:>11}{:>11.3g}{:>11.3g}{:>11.3g}{:>11.3g}\n", name, r->summary.precision, r->summary.recall,
                        r->summary.map50, r->summary.map50_95);
  return text;
}

}  // namespace

std::filesystem::path run_validation(const ValConfig& given, Observer& observer) {
  ValConfig config = given;
  const bool speed = config.task == "speed";
  if (speed) config.conf_thres = 0.25, config.iou_thres = 0.45, config.save_json = false;
  if (std::filesystem::path(config.data).filename() == "coco.yaml") config.save_json = true;
  if (config.half) config.precision = "half";
  const RunDevice run(config.device, config.precision, {config.deterministic, config.tf32});
  config.precision = name_of(run.compute);
  Device& device = *run.device;
  observer.notice(fmt::format("{}{}\n{}\n\n", bold_blue("val: "), options_line(config), run.line));
  if (!speed && config.conf_thres > 0.001)
    observer.notice(fmt::format("WARNING: confidence threshold {} > 0.001 produces invalid results\n", config.conf_thres));

  const DataConfig data = load_data_config(config.data);
  for (const std::string& warning : data.warnings) observer.warning(fmt::format("{}\n", warning));
  const std::filesystem::path file = find_weights(config.weights, observer);
  observer.notice(fmt::format("Fusing layers... \n"));
  const std::unique_ptr<DetectionModel> model = load_model(device, file);
  observer.notice(fmt::format("{}\n", model->summary(true, false)));
  if (const std::string line = slim::sparsity_line(slim::sparsity(*model)); !line.empty())
    observer.notice(fmt::format("{}\n", line));
  const int classes = model->detect().classes;
  FROST_CHECK(config.single_cls || classes == data.class_count(), file.string(), " (", classes,
              " classes) trained on different --data than what you passed (", data.class_count(),
              " classes). Pass correct combination of --weights and --data that are trained together.");
  const int stride = model->stride();
  const int imgsz = (config.imgsz + stride - 1) / stride * stride;
  if (imgsz != config.imgsz)
    observer.notice(fmt::format("WARNING: --img-size {} must be multiple of max stride {}, updating to {}\n", config.imgsz,
                                stride, imgsz));

  const std::vector<std::string>& paths = data.split(speed ? "val" : config.task);
  LabelSet labels = scan_with_progress(paths, bold_blue((speed ? "val" : config.task) + ": "), observer);
  if (config.strict) check_not_corrupt(labels);
  if (!config.single_cls) check_classes(labels, classes, config.data);
  const int batch_size = config.batch_size;
  auto dataset = std::make_shared<DetectionDataset>(std::move(labels), DatasetOptions{.imgsz = imgsz,
                                                                                      .batch_size = batch_size,
                                                                                      .stride = stride,
                                                                                      .pad = speed ? 0.0 : 0.5,
                                                                                      .augment = false,
                                                                                      .rect = true,
                                                                                      .single_cls = config.single_cls});
  const auto loader = make_loader(dataset, {.threads = worker_count(config.workers, batch_size)});

  const std::filesystem::path folder = make_run_folder(config.project, config.name, config.exist_ok);
  if (config.save_txt) make_folders(folder / "labels");
  CocoPredictions predictions(data.is_coco() || classes == 80);
  ValidateOptions options{.conf_thres = static_cast<float>(config.conf_thres),
                          .iou_thres = config.iou_thres,
                          .max_det = config.max_det,
                          .single_cls = config.single_cls,
                          .compute = run.compute,
                          .cuda_graph = config.cuda_graph,
                          .observer = observer};
  std::optional<ValidationResult> dense;
  if (config.prune > 0) {
    dense = validate(device, *model, *loader, options);
    observer.notice(metrics_table(dense->summary, data.names, false));
    fuse(*model);
    slim::prune_l1(*model, config.prune);
    observer.notice(fmt::format("{}\n", slim::pruned_line(slim::sparsity(*model))));
  }
  options.image_done = [&](const ImageDetections& image) {
    const std::string stem = std::filesystem::path(image.path).stem().string();
    if (config.save_txt)
      append_label_file(folder / "labels" / (stem + ".txt"), image.native, image.width, image.height, config.save_conf);
    if (config.save_json) predictions.add_image(stem, image.native);
  };
  if (!config.noplots && !speed) options.batch_done = validation_grids(folder, model->names);
  const ValidationResult result = validate(device, *model, *loader, options);
  for (const std::string& fault : dataset->take_warnings()) {
    if (config.strict) fail(fault);
    observer.notice(fmt::format("WARNING ⚠️ {}\n", fault));
  }
  FROST_CHECK(result.images > 0, config.data, ": none of ", dataset->size(),
              " images can be decoded; the first: ", dataset->first_fault());

  const bool rows = config.verbose || (data.class_count() < 50 && data.class_count() > 1);
  observer.notice(metrics_table(result.summary, data.names, rows));
  if (result.summary.instances == 0)
    observer.notice(
        fmt::format("WARNING: no labels found in {} set, can not compute metrics without labels\n", config.task));
  if (dense) observer.notice(before_and_after(*dense, result));
  observer.notice(fmt::format("{}\n", speed_line(result.pre_ms, result.inference_ms, result.nms_ms, batch_size, imgsz)));
  if (config.save_json) predictions.write(folder / (file.stem().string() + "_predictions.json"));
  observer.notice(fmt::format("Results saved to {}\n", bold(folder.string())));
  if (config.save_txt) {
    const auto count =
        std::distance(std::filesystem::directory_iterator(folder / "labels"), std::filesystem::directory_iterator{});
    observer.notice(fmt::format("{} labels saved to {}\n", count, (folder / "labels").string()));
  }
  return folder;
}

}  // namespace frost::yolo
