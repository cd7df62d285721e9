#include <doctest/doctest.h>
#include <fmt/format.h>

#include "models/slim/explain.h"
#include "models/slim/freeze.h"
#include "models/yolo/trainee.h"

// What explain predicts without running a step is what the ledger of a real step says, byte for byte.
namespace frost::slim {
namespace {

BuildTrainee trainee(const std::string& name, int freeze, const yolo::TraineeOptions& options) {
  return yolo::detection_trainee(
      [name](Device& device) { return std::make_unique<DetectionModel>(device, load_model_spec(name)); },
      [freeze](DetectionModel& model) { slim::freeze(model, layer_names(model), {std::to_string(freeze)}); }, options);
}

void check_equal(const StepCost& a, const StepCost& b) {
  CHECK(a.parameters == b.parameters);
  CHECK(a.trainable == b.trainable);
  CHECK(a.weights == b.weights);
  CHECK(a.buffers == b.buffers);
  CHECK(a.gradients == b.gradients);
  CHECK(a.optimizer == b.optimizer);
  CHECK(a.average == b.average);
  CHECK(a.saved == b.saved);
  CHECK(a.forward_flops == b.forward_flops);
  CHECK(a.dgrad_flops == b.dgrad_flops);
  CHECK(a.wgrad_flops == b.wgrad_flops);
}

void check_prediction(const BuildTrainee& build, const StepOptions& options) {
  const std::unique_ptr<Backend> cpu = make_cpu_backend();
  const StepReport predicted = predict_step(build, options, *cpu), measured = measure_step(build, options, *cpu, 1);
  for (int role = 0; role < kRoleCount; ++role) {
    CAPTURE(name_of(static_cast<Role>(role)));
    CHECK(predicted.peaks[static_cast<std::size_t>(role)] == measured.peaks[static_cast<std::size_t>(role)]);
    CHECK(predicted.resident[static_cast<std::size_t>(role)] == measured.resident[static_cast<std::size_t>(role)]);
  }
  CHECK(predicted.peak == measured.peak);
  CHECK((predicted.calls == measured.calls));
  REQUIRE(predicted.modules.size() == measured.modules.size());
  for (std::size_t i = 0; i < measured.modules.size(); ++i) {
    CAPTURE(measured.modules[i].name);
    check_equal(predicted.modules[i].cost, measured.modules[i].cost);
    REQUIRE(predicted.modules[i].parts.size() == measured.modules[i].parts.size());
    for (std::size_t k = 0; k < measured.modules[i].parts.size(); ++k)
      check_equal(predicted.modules[i].parts[k].cost, measured.modules[i].parts[k].cost);
  }
  check_equal(predicted.total, measured.total);
  // Nothing is lost between the modules and the ledger.
  CHECK(predicted.total.weights == measured.peak_of(Role::parameter));
  CHECK(predicted.total.buffers == measured.peak_of(Role::buffer));
  CHECK(predicted.total.gradients == measured.peak_of(Role::gradient));
  CHECK(predicted.total.optimizer + predicted.total.average == measured.peak_of(Role::optimizer_state));
  CHECK(predicted.total.saved == measured.peak_of(Role::saved_activation));
}

}  // namespace

TEST_CASE("explain: predicted bytes are the measured ones, n, s, m and every usual freeze") {
  for (const char* name : {"yolov5n", "yolov5s", "yolov5m"})
    for (const int freeze : {0, 10, 24}) {
      CAPTURE(name);
      CAPTURE(freeze);
      check_prediction(trainee(name, freeze, {.batch_size = 2, .imgsz = 64}), {});
    }
}

TEST_CASE("explain: ... at 320 px, with batch statistics, Adam, everything kept, bf16, no average") {
  check_prediction(trainee("yolov5n", 10, {.batch_size = 2, .imgsz = 320}), {});
  check_prediction(trainee("yolov5n", 10, {.batch_size = 3, .imgsz = 96, .frozen_bn = FrozenBn::batch}),
                   {.frozen_bn = FrozenBn::batch});
  check_prediction(trainee("yolov5n", 0, {.batch_size = 2, .imgsz = 64}),
                   {.optimizer = OptimizerKind::adam, .average = false});
  check_prediction(trainee("yolov5n", 5, {.batch_size = 2, .imgsz = 64, .recompute = false}), {});
  if (make_cpu_backend()->supports(DType::bf16))
    check_prediction(trainee("yolov5n", 10, {.batch_size = 2, .imgsz = 64, .compute = DType::bf16}), {});
}
}  // namespace frost::slim
