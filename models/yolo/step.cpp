#include "models/yolo/step.h"

namespace frost::yolo {
namespace {

DetectLossResult run_loss(Device& device, const DetectionModel& model, const std::vector<Var>& maps,
                          const std::vector<Tensor>& gradients, const std::vector<float>& targets, LossSettings& settings) {
  DetectLoss loss{.levels = model.detect().levels(maps),
                  .dheads = {},
                  .classes = model.detect().classes,
                  .targets = nullptr,
                  .target_count = static_cast<std::int64_t>(targets.size() / 6),
                  .gains = settings.gains,
                  .balance = settings.balance,
                  .autobalance = settings.autobalance,
                  .grad_scale = 1};
  for (const Tensor& gradient : gradients) loss.dheads.push_back(gradient);
  Tensor rows;
  if (!targets.empty()) {
    rows = Tensor::from(device, {1, 1, loss.target_count, 6}, targets, Role::input);
    loss.targets = rows.f32();
  }
  const DetectLossResult result = device.backend().detect_loss(loss);
  settings.balance = loss.balance;
  return result;
}

}  // namespace

DetectLossResult detection_loss(Device& device, const DetectionModel& model, const std::vector<Var>& maps,
                                const std::vector<float>& targets, LossSettings& settings) {
  return run_loss(device, model, maps, {}, targets, settings);
}

DetectLossResult train_step(Context context, DetectionModel& model, const Tensor& images, const std::vector<float>& targets,
                            LossSettings& settings, bool recompute) {
  Tape tape(recompute);
  context.tape = &tape;
  context.training = true;
  std::vector<Var> maps = model.heads(context, {images, -1, nullptr});
  std::vector<Tensor> gradients;
  for (const Var& map : maps)
    if (map.needs_grad()) gradients.emplace_back(context.device, map.shape(), context.compute, Role::activation);
  if (gradients.size() != maps.size()) gradients.clear();  // nothing is trainable
  const DetectLossResult result = run_loss(context.device, model, maps, gradients, targets, settings);
  std::vector<std::pair<int, Tensor>> seeds;
  for (std::size_t level = 0; level < gradients.size(); ++level)
    seeds.emplace_back(maps[level].slot, std::move(gradients[level]));
  gradients.clear();
  maps.clear();
  tape.backward(std::move(seeds));
  return result;
}

}  // namespace frost::yolo
