#include "models/yolo/training/step.h"

namespace frost::yolo {
namespace {

std::int64_t rows_of(const std::vector<float>& targets) { return static_cast<std::int64_t>(targets.size() / 6); }

}  // namespace

LossState::LossState(Device& device, const LossSettings& settings, std::int64_t target_capacity)
    : settings_(settings),
      targets_(device, {1, 1, target_capacity, 6}, DType::f32, Role::input),
      balance_(Tensor::from(device, {1, 1, 1, static_cast<std::int64_t>(settings.balance.size())}, settings.balance,
                            Role::buffer)),
      result_(device, {1, 1, 1, kDetectLossResults}, DType::f32, Role::workspace) {
  targets_.assign(std::vector<float>(static_cast<std::size_t>(6 * target_capacity), -1.0f));
}

void LossState::set_targets(const std::vector<float>& targets, std::int64_t batch, std::int64_t classes) {
  FROST_CHECK(rows_of(targets) <= target_capacity(), "the batch has ", rows_of(targets), " targets, there is room for ",
              target_capacity());
  check_detect_targets(targets.data(), rows_of(targets), batch, classes);
  std::vector<float> rows(targets);
  rows.resize(static_cast<std::size_t>(6 * target_capacity()), -1.0f);  // image -1: padding
  targets_.assign(rows);
}

void LossState::run(const DetectionModel& model, const std::vector<Var>& maps, const std::vector<Tensor>& gradients) {
  DetectLoss loss{.levels = model.detect().levels(maps),
                  .dheads = {},
                  .classes = model.detect().classes,
                  .targets = targets_.f32(),
                  .target_capacity = target_capacity(),
                  .gains = settings_.gains,
                  .balance = balance_.f32(),
                  .autobalance = settings_.autobalance,
                  .grad_scale = grad_scale ? grad_scale.f32() : nullptr,
                  .result = result_.f32(),
                  .workspace = nullptr};
  FROST_CHECK(settings_.balance.size() == loss.levels.size(), "the loss has ", settings_.balance.size(), " balances for ",
              loss.levels.size(), " levels");
  for (const Tensor& gradient : gradients) loss.dheads.push_back(gradient);
  Backend& backend = balance_.backend();
  const auto bytes = static_cast<std::int64_t>(backend.detect_loss_workspace(loss));
  if (bytes > 0 && (!workspace_ || workspace_.elements() < bytes))
    workspace_ = Tensor(balance_.device(), {1, 1, 1, bytes}, DType::u8, Role::workspace);
  if (bytes > 0) loss.workspace = workspace_.data();
  backend.detect_loss(loss);
}

DetectLossResult LossState::result() const {
  const std::vector<float> values = result_.to_vector();
  return {.loss = values[0], .items = {values[1], values[2], values[3]}};
}
std::vector<float> LossState::balance() const { return balance_.to_vector(); }

Tensor normalised(Device& device, const Tensor& pixels, DType compute) {
  Tensor input(device, pixels.shape(), compute, Role::input);
  device.backend().normalize_image({.x = pixels, .y = input});
  return input;
}

DetectLossResult detection_loss(Device& device, const DetectionModel& model, const std::vector<Var>& maps,
                                const std::vector<float>& targets, LossSettings& settings) {
  LossState state(device, settings, rows_of(targets));
  state.set_targets(targets, maps.front().shape().n, model.detect().classes);
  state.run(model, maps, {});
  settings.balance = state.balance();
  return state.result();
}

void train_step(Context context, DetectionModel& model, const PrefixOutput& input, LossState& loss, bool recompute) {
  Tape tape(recompute);
  context.tape = &tape;
  context.training = true;
  std::vector<Var> below;
  for (const Tensor& value : input.values) below.push_back({value, -1, nullptr});
  std::vector<Var> maps = model.heads_from(context, input.cut, below);
  below.clear();
  std::vector<Tensor> gradients;
  for (const Var& map : maps)
    if (map.needs_grad()) gradients.emplace_back(context.device, map.shape(), context.compute, Role::activation);
  if (gradients.size() != maps.size()) gradients.clear();  // nothing is trainable
  loss.run(model, maps, gradients);
  std::vector<std::pair<int, Tensor>> seeds;
  for (std::size_t level = 0; level < gradients.size(); ++level)
    seeds.emplace_back(maps[level].slot, std::move(gradients[level]));
  gradients.clear();
  maps.clear();
  tape.backward(std::move(seeds));
}

void train_step(Context context, DetectionModel& model, const Tensor& images, LossState& loss, bool recompute) {
  train_step(context, model, PrefixOutput{0, {images}}, loss, recompute);
}

DetectLossResult train_step(Context context, DetectionModel& model, const PrefixOutput& input,
                            const std::vector<float>& targets, LossSettings& settings, bool recompute) {
  LossState state(context.device, settings, rows_of(targets));
  state.set_targets(targets, input.values.front().shape().n, model.detect().classes);
  train_step(context, model, input, state, recompute);
  settings.balance = state.balance();
  return state.result();
}

DetectLossResult train_step(Context context, DetectionModel& model, const Tensor& images, const std::vector<float>& targets,
                            LossSettings& settings, bool recompute) {
  return train_step(context, model, PrefixOutput{0, {images}}, targets, settings, recompute);
}

}  // namespace frost::yolo
