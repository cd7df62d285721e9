#include <doctest/doctest.h>
#include <fmt/format.h>

#include <fstream>
#include <map>

#include "models/classify/task.h"
#include "models/slim/explain.h"
#include "models/yolo/training/task.h"
#include "tests/device.h"

// What explain predicts without running a step is what the ledger of a real step says, byte for byte.
namespace frost::slim {
namespace {

/// A model, how it is frozen, and the task that explain runs for it.
struct Asked {
  std::unique_ptr<Model> model;
  MakeTask make;
  int warm_up = 1;
};

/// The models that are asked about live on a device without memory.
Device& nowhere() {
  static const std::unique_ptr<Backend> cpu = make_cpu_backend();
  static Device device(make_meta_backend(*cpu, {}));
  return device;
}

struct Setting {
  int batch_size = 16, imgsz = 640;
  DType compute = DType::f32;
  FrozenBn frozen_bn = FrozenBn::running;
  bool recompute = true;
  FeatureCache features = FeatureCache::off;
  StepPlan step() const { return {.compute = compute, .frozen_bn = frozen_bn, .recompute = recompute}; }
  NoiseOptions noise() const { return {batch_size, imgsz, features}; }
};

Asked detector(const std::string& name, int freeze, const Setting& setting) {
  auto model = std::make_unique<DetectionModel>(nowhere(), load_model_spec(name), std::nullopt);
  model->freeze({std::to_string(freeze)});
  return {std::move(model), yolo::noise_task({setting.step()}, setting.noise()),
          setting.features == FeatureCache::filled ? 3 : 1};
}

StepReport predict(const Asked& asked, StepOptions options, const Backend& like, const Timer& timer = {}) {
  options.warm_up = asked.warm_up;
  return predict_step(*asked.model, asked.make, options, like, timer);
}

void check_equal(const StepCost& a, const StepCost& b) {
  CHECK(a.parameters == b.parameters);
  CHECK(a.trainable == b.trainable);
  CHECK(a.weights == b.weights);
  CHECK(a.buffers == b.buffers);
  CHECK(a.gradients == b.gradients);
  CHECK(a.optimizer == b.optimizer);
  CHECK(a.ema == b.ema);
  CHECK(a.saved == b.saved);
  CHECK(a.forward_flops == b.forward_flops);
  CHECK(a.dgrad_flops == b.dgrad_flops);
  CHECK(a.wgrad_flops == b.wgrad_flops);
}

void check_prediction(const Asked& asked, StepOptions options) {
  options.warm_up = asked.warm_up;
  const std::unique_ptr<Backend> backend = testing::make_device_backend(true);
  const StepReport predicted = predict(asked, options, *backend),
                   measured = measure_step(*asked.model, asked.make, options, *backend, 1);
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
  CHECK(predicted.total.optimizer + predicted.total.ema == measured.peak_of(Role::optimizer_state));
  CHECK(predicted.total.saved == measured.peak_of(Role::saved_activation));
}

}  // namespace

TEST_CASE("explain: predicted bytes are the measured ones, n, s, m and every usual freeze") {
  for (const char* name : {"yolov5n", "yolov5s", "yolov5m"})
    for (const int freeze : {0, 10, 24}) {
      CAPTURE(name);
      CAPTURE(freeze);
      check_prediction(detector(name, freeze, {.batch_size = 2, .imgsz = 64}), {});
    }
}

TEST_CASE("explain: ... at 320 px, with batch statistics, Adam, everything kept, bf16, no average") {
  check_prediction(detector("yolov5n", 10, {.batch_size = 2, .imgsz = 320}), {});
  check_prediction(detector("yolov5n", 10, {.batch_size = 3, .imgsz = 96, .frozen_bn = FrozenBn::batch}),
                   {.frozen_bn = FrozenBn::batch});
  check_prediction(detector("yolov5n", 0, {.batch_size = 2, .imgsz = 64}), {.optimizer = OptimizerKind::adam, .ema = false});
  check_prediction(detector("yolov5n", 5, {.batch_size = 2, .imgsz = 64, .recompute = false}), {});
  if (testing::make_device_backend(true)->supports(DType::bf16))
    check_prediction(detector("yolov5n", 10, {.batch_size = 2, .imgsz = 64, .compute = DType::bf16}), {});
}

TEST_CASE("explain: forward FLOPs are those of the model's summary; backward's follow from what trains") {
  const std::unique_ptr<Backend> backend = testing::make_device_backend(true);
  for (const auto& [name, gflops] : {std::pair{"yolov5n", 4.5}, {"yolov5s", 16.4}, {"yolov5m", 48.9}}) {
    CAPTURE(name);
    const StepReport all = predict(detector(name, 0, {.batch_size = 1, .imgsz = 640}), {}, *backend);
    CHECK(std::abs(static_cast<double>(all.total.forward_flops) / 1e9 - gflops) < 0.15);  // YOLOv5 prints one digit, fused
    // Each convolution's three passes have the same multiply-adds; only the first has no input gradient.
    CHECK(all.total.wgrad_flops == all.total.forward_flops);
    CHECK(all.total.dgrad_flops == all.total.forward_flops - all.modules[0].cost.forward_flops);
    // Exactly what the profile of a forward pass counts.
    Device device(make_meta_backend(*backend, {}));
    DetectionModel model(device, load_model_spec(name));
    Profile profile;
    Context context{.device = device, .profile = &profile};
    model.heads(context, {Tensor::zeros(device, {1, 640, 640, 3}), -1, nullptr});
    CHECK(all.total.forward_flops == 2 * profile.convolution);
  }
}

TEST_CASE("explain: a frozen prefix costs nothing but its weights and its forward pass") {
  const std::unique_ptr<Backend> backend = testing::make_device_backend(true);
  const Setting options{.batch_size = 2, .imgsz = 64};
  const StepReport all = predict(detector("yolov5n", 0, options), {}, *backend),
                   ten = predict(detector("yolov5n", 10, options), {}, *backend);
  for (std::size_t i = 0; i < 10; ++i) {
    const StepCost& c = ten.modules[i].cost;
    CAPTURE(i);
    CHECK(c.trainable + c.gradients + c.optimizer + c.ema + c.dgrad_flops + c.wgrad_flops == 0);
    CHECK(c.forward_flops == all.modules[i].cost.forward_flops);
    const bool read_above = i == 4 || i == 6 || i == 9;  // the neck's trainable convolutions read these
    CHECK((c.saved > 0) == read_above);
  }
  for (const Primitive p : {Primitive::conv_backward_weight, Primitive::conv_backward_data, Primitive::norm_act_backward}) {
    CAPTURE(name_of(p));
    CHECK(ten.calls[static_cast<std::size_t>(p)] < all.calls[static_cast<std::size_t>(p)]);
  }
  const StepReport nothing = predict(detector("yolov5n", 25, options), {}, *backend);  // nothing trains at all
  CHECK(nothing.total.saved + nothing.total.gradients + nothing.total.optimizer + nothing.total.dgrad_flops == 0);
}

TEST_CASE("explain: features from the cache: nothing below the cut runs, and the accounts are still exact") {
  Setting options{.batch_size = 3, .imgsz = 64};
  const auto report = [&](FeatureCache features, int freeze) {
    const std::unique_ptr<Backend> cpu = make_cpu_backend();
    options.features = features;
    check_prediction(detector("yolov5n", freeze, options), {});
    return predict(detector("yolov5n", freeze, options), {}, *cpu);
  };
  const StepReport plain = report(FeatureCache::off, 10), first = report(FeatureCache::filling, 10),
                   later = report(FeatureCache::filled, 10);
  for (std::size_t i = 0; i < 10; ++i) CHECK(later.modules[i].cost.forward_flops == 0);
  CHECK(first.total.forward_flops == plain.total.forward_flops);
  for (const StepReport* r : {&first, &later}) {
    CHECK(r->total.wgrad_flops == plain.total.wgrad_flops);
    CHECK(r->kept_each == 4 * (64 * 8 * 8 + 128 * 4 * 4 + 256 * 2 * 2));  // layers 4, 6 and 9, f32
  }
  CHECK(first.total.saved == plain.total.saved);
  CHECK(later.total.saved == plain.total.saved - 3 * later.kept_each);  // what the neck reads is input now
  CHECK(later.peak_of(Role::input) < first.peak_of(Role::input));       // and no picture is there
  const StepReport nothing = report(FeatureCache::filled, 0);
  CHECK(nothing.kept_each == 0);
  CHECK(nothing.total.forward_flops == plain.total.forward_flops);
}

namespace {
Asked classifier(const std::string& name, const std::vector<std::string>& terms, const Setting& setting) {
  auto model = classify::make_classifier(nowhere(), name, 10, {});
  model->freeze(terms);
  return {std::move(model), classify::noise_task(setting.step(), setting.noise())};
}
}  // namespace

TEST_CASE("explain: a classifier's bytes, all of it and a new head alone") {
  for (const std::vector<std::string>& terms : std::vector<std::vector<std::string>>{{"0"}, {"3"}, {"!fc"}}) {
    CAPTURE(terms.back());
    check_prediction(classifier("resnet18", terms, {.batch_size = 2, .imgsz = 64}), {});
  }
  check_prediction(classifier("resnet18", {"!fc"}, {.batch_size = 3, .imgsz = 32}), {.optimizer = OptimizerKind::adam});
  check_prediction(classifier("yolov5n-cls", {"9"}, {.batch_size = 2, .imgsz = 64}), {});

  const std::unique_ptr<Backend> backend = testing::make_device_backend(true);
  const StepReport report = predict(classifier("resnet18", {"!fc"}, {.batch_size = 2, .imgsz = 64}), {}, *backend);
  CHECK(report.total.trainable == 512 * 10 + 10);
  CHECK(report.modules[5].name == "fc");
  CHECK(report.modules[5].cost.wgrad_flops == 2 * 2 * 512 * 10);  // two images
  CHECK(report.modules[5].cost.dgrad_flops == 0);
}

TEST_CASE("explain: every classifier's bytes, its backbone frozen and not; all parameters and all work are in its rows") {
  const std::unique_ptr<Backend> backend = testing::make_device_backend(true);
  for (const std::string& name : classify::classifier_names())
    for (const std::string term : {"0", "backbone"}) {
      CAPTURE(name);
      CAPTURE(term);
      const int imgsz = classify::make_classifier(nowhere(), name, 10, {})->smallest_imgsz();
      const Asked asked = classifier(name, {term}, {.batch_size = 2, .imgsz = imgsz});
      const StepReport report = predict(asked, {}, *backend);
      CHECK(report.rest.parameters + report.rest.forward_flops == 0);
      for (const ModuleCost& row : report.modules) CHECK(row.cost.forward_flops > 0);
      if (name.starts_with("vgg") || report.total.parameters > 30'000'000) continue;  // its step takes long
      check_prediction(asked, {});
    }
}

TEST_CASE("explain: a classifier's rows are the layers that --freeze counts") {
  const std::unique_ptr<Backend> backend = testing::make_device_backend(true);
  const std::map<std::string, std::vector<std::string>> rows{
      {"resnet18", {"conv1, bn1", "layer1", "layer2", "layer3", "layer4", "fc"}},
      {"resnet50v2", {"conv1_conv", "conv2", "conv3", "conv4", "conv5, post_bn", "predictions"}},
      {"vgg16",
       {"features.0-4", "features.5-9", "features.10-16", "features.17-23", "features.24-30", "classifier.0", "classifier.3",
        "classifier.6"}},
      {"yolov5n-cls",
       {"model.0", "model.1", "model.2", "model.3", "model.4", "model.5", "model.6", "model.7", "model.8", "model.9"}}};
  for (const auto& [name, names] : rows)
    for (std::size_t n = 0; n <= names.size(); ++n) {
      CAPTURE(name);
      CAPTURE(n);
      const StepReport report = predict(classifier(name, {std::to_string(n)}, {.batch_size = 2, .imgsz = 32}), {}, *backend);
      REQUIRE(report.modules.size() == names.size());
      CHECK(report.rest.parameters + report.rest.forward_flops == 0);  // each parameter is in a row, and all work
      for (std::size_t i = 0; i < names.size(); ++i) {
        CHECK(report.modules[i].name == names[i]);
        CHECK(report.modules[i].cost.forward_flops > 0);
        CHECK(report.modules[i].cost.trainable == (i < n ? 0 : report.modules[i].cost.parameters));
      }
    }
}

namespace {
/// What a device holds beyond a model's parameters and buffers.
std::int64_t beside(Device& device, Module& model) {
  std::int64_t bytes = device.ledger().total().current;
  for (const Parameter* p : model.parameters()) bytes -= p->value.elements() * 4;
  for (const Buffer* buffer : model.buffers()) bytes -= buffer->value.elements() * 4;
  return bytes;
}
}  // namespace

TEST_CASE("a model that was built and has said its summary leaves nothing but itself on the device") {
  for (const char* name : {"yolov5n", "yolov5n6", "yolov3-tiny", "yolov5s-ghost"}) {
    CAPTURE(name);
    testing::TestDevice device;
    DetectionModel model(device, load_model_spec(name));
    CHECK(beside(device, model) == 0);
    CHECK(model.summary(false, true).find(" GFLOPs") != std::string::npos);
    CHECK(beside(device, model) == 0);
    CHECK(device.ledger().total().peak == device.ledger().total().current);
  }
  for (const std::string name : {"resnet18", "resnet50v2", "yolov5n-cls"}) {  // v2: norms that cannot be fused
    CAPTURE(name);
    testing::TestDevice device;
    const auto model = classify::make_classifier(device, name, 10, {});
    CHECK(model->summary(64).find(" GFLOPs") != std::string::npos);
    CHECK(beside(device, *model) == 0);
  }
}

namespace {
/// The most host memory that this process has had, since it was asked to begin anew.
double peak_rss_gb() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("VmHWM:")) return std::stod(line.substr(6)) / 1e6;
  return 0;
}
}  // namespace

TEST_CASE("explain: asking about a step that no machine here could run costs nothing: no picture is made") {
  const std::unique_ptr<Backend> backend = testing::make_device_backend(true);
  const auto predicted = [&](double pictures_gb, const Asked& asked) {
    std::ofstream("/proc/self/clear_refs") << "5";
    const double before = peak_rss_gb();
    REQUIRE(before > 0);
    StepReport report = predict(asked, {.validation = true}, *backend);
    CHECK(peak_rss_gb() - before < pictures_gb / 4);
    return report;
  };
  // In validation twice the batch, and a detector's pictures are larger there.
  const StepReport report = predicted(7.8, detector("yolov5l", 0, {.batch_size = 512, .imgsz = 1280}));
  CHECK(report.peak > std::int64_t{500} * 1000 * 1000 * 1000);
  CHECK(report.total.parameters == 46563709);
  predicted(4.9, classifier("resnet18", {"0"}, {.batch_size = 4096, .imgsz = 448}));
  // Features that would be kept: 2.9 MB of each picture, in three batches.
  predicted(1.1, detector("yolov5n", 10, {.batch_size = 128, .imgsz = 640, .features = FeatureCache::filling}));
}

namespace {
/// Detection whose step does one thing more: it keeps `bytes` of activations while it runs, under a module's name.
class HungryTask final : public yolo::DetectionTask {
 public:
  HungryTask(Device& device, DetectionModel& model, yolo::DetectionPlan plan, yolo::DetectionBatches data,
             std::int64_t bytes)
      : yolo::DetectionTask(device, model, std::move(plan), std::move(data)), device_(device), bytes_(bytes) {}
  BatchReport train_batch() override {
    const Device::ScopeGuard scope(device_, "model.3.conv");
    const Tensor extra(device_, {1, 1, 1, bytes_}, DType::u8, Role::saved_activation);
    return yolo::DetectionTask::train_batch();
  }

 private:
  Device& device_;
  std::int64_t bytes_;
};
}  // namespace

TEST_CASE("explain: a task's step that changes changes the prediction: there is no second step") {
  constexpr std::int64_t kExtra = 3 << 20;
  const Setting setting{.batch_size = 2, .imgsz = 64};
  const Asked plain = detector("yolov5n", 10, setting);
  const MakeTask hungry = [&](Device& device, Model& model) -> std::unique_ptr<Task> {
    auto& of = dynamic_cast<DetectionModel&>(model);
    return std::make_unique<HungryTask>(device, of, yolo::DetectionPlan{setting.step()},
                                        yolo::noise_batches(device.backend(), of, setting.noise()), kExtra);
  };
  const std::unique_ptr<Backend> backend = testing::make_device_backend(true);
  const StepReport before = predict(plain, {}, *backend), after = predict_step(*plain.model, hungry, {}, *backend),
                   measured = measure_step(*plain.model, hungry, {}, *backend, 1);
  CHECK(after.total.saved == before.total.saved + kExtra);
  CHECK(after.modules[3].cost.saved == before.modules[3].cost.saved + kExtra);
  CHECK(after.peak == before.peak + kExtra);
  CHECK(after.peak == measured.peak);
  CHECK((after.calls == before.calls));
}

TEST_CASE("explain: times of single calls make up the time of a step") {
  const std::unique_ptr<Backend> backend = testing::make_device_backend(true);
  testing::TestDevice device;
  CallTimes times(device);
  std::int64_t calls = 0;
  const Timer timer = [&](const PrimitiveCall& call) {
    const double seconds = times.seconds(call);
    const bool between_host_and_device = call.primitive == Primitive::upload || call.primitive == Primitive::download;
    CHECK((seconds > 0) != between_host_and_device);
    ++calls;
    CHECK(times.seconds(call) == seconds);  // a second look at the same kind of call is free
    return seconds;
  };
  const StepReport report = predict(detector("yolov5n", 10, {.batch_size = 1, .imgsz = 64}), {}, *backend, timer);
  CHECK(times.measured() < static_cast<std::size_t>(calls));
  CHECK(report.total.forward_seconds > 0);
  CHECK(report.total.backward_seconds > 0);
  CHECK(report.total.update_seconds > 0);
  CHECK(device.ledger().total().current == 0);
}
}  // namespace frost::slim
