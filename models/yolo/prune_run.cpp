#include "models/yolo/prune_run.h"

#include "models/yolo/model_io.h"
#include "models/yolo/val_run.h"
#include "models/zoo/weights.h"

namespace frost::yolo {

slim::PruneSubject prune_subject(const slim::PruneConfig& config, Device& device) {
  const std::filesystem::path file = find_weights(config.weights);
  const auto checkpoint = std::make_shared<YoloCheckpoint>(load_yolo_checkpoint(file));
  const std::shared_ptr<DetectionModel> model = model_of(device, *checkpoint, file.string());
  checkpoint->yaml_text = model->spec().text;  // with what the modules of a .pt say beyond it
  const std::int64_t side = model->stride();
  return {.file = file,
          .model = model,
          .summary = model->summary(false, false),
          .stored = std::move(checkpoint->state),
          .metadata = checkpoint->metadata,
          .image = {1, side, side, model->spec().channels},
          .forward = [model](Context& context, const Var& image) { return model->heads(context, image); },
          .save =
              [checkpoint](const std::filesystem::path& to, StateDict state, const Metadata& about) {
                checkpoint->state = std::move(state);
                checkpoint->metadata = about;
                checkpoint->epoch = -1;
                save_yolo_checkpoint(to, *checkpoint);
              },
          .validate =
              [config](const std::string& weights) {
                run_validation({.data = config.data,
                                .weights = weights,
                                .batch_size = config.batch_size,
                                .imgsz = config.imgsz > 0 ? config.imgsz : ValConfig().imgsz,
                                .device = config.device,
                                .noplots = true});
              }};
}

}  // namespace frost::yolo
