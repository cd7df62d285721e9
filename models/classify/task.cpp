#include "models/classify/task.h"

#include <fmt/format.h>

#include <numeric>

#include "engine/image/codec.h"
#include "engine/report/text.h"
#include "models/classify/weights.h"

namespace frost::classify {

ClassificationBatches make_batches(const LoadingSettings& data, const Preprocessing& preprocessing) {
  ClassificationBatches batches{.train = {},
                                .val = {},
                                .train_faults = std::make_shared<ImageFaults>(data.splits.train.size()),
                                .val_faults = std::make_shared<ImageFaults>(data.splits.val.size()),
                                .images = data.splits.train.size(),
                                .val_name = data.splits.val_name,
                                .name = data.name};
  ImageLoaderOptions options{.side = data.imgsz,
                             .batch_size = data.batch_size,
                             .augment = data.augment,
                             .shuffle = true,
                             .square = preprocessing.framing == Preprocessing::Framing::square,
                             .cache = data.cache,
                             .stand_ins = true,
                             .seed = data.seed,
                             .threads = data.workers,
                             .faults = batches.train_faults};
  batches.train = make_image_loader(std::make_shared<ImageFolder>(data.splits.train), options);
  options.batch_size *= 2, options.augment = options.shuffle = options.stand_ins = false;
  options.faults = batches.val_faults;
  batches.val = make_image_loader(std::make_shared<ImageFolder>(data.splits.val), options);
  return batches;
}

ClassificationBatches noise_batches(const Backend& backend, int classes, const NoiseOptions& options) {
  const auto loader = [&](std::int64_t n, std::int64_t batches) {
    const auto open = [=, &backend, side = options.imgsz](ImageBatch& b, std::int64_t, std::int64_t) -> std::int64_t {
      if (b.n > 0) return 0;
      b.n = n, b.side = side;
      b.pixels = noise(backend, static_cast<std::size_t>(n) * b.image_bytes());
      Rng rng(0);
      for (std::int64_t i = 0; i < n; ++i) b.labels.push_back(rng.below(classes));
      return 0;
    };
    return std::make_unique<ImageLoader>(BatchSource<ImageBatch>{.batches = batches, .open = open, .item = {}, .close = {}});
  };
  return {
      .train = loader(options.batch_size, std::int64_t{1} << 30), .val = loader(2 * options.batch_size, 1), .name = "noise"};
}

ClassificationTask::ClassificationTask(Device& device, Classifier& model, const StepPlan& plan, ClassificationBatches data,
                                       Observer& observer)
    : device_(device),
      model_(model),
      plan_(plan),
      data_(std::move(data)),
      observer_(observer),
      normalise_(device, model.preprocessing()),
      work_(device, &model, plan.cuda_graph),
      faults_(plan.strict, observer) {}

std::string ClassificationTask::opening(const std::filesystem::path& folder, int epochs) const {
  return fmt::format("{}\nLogging results to {}\nStarting {} training on {} dataset with {} classes for {} epochs...\n\n",
                     settings, bold(folder.string()), model_.architecture(), data_.name, model_.classes(), epochs);
}

void ClassificationTask::begin_epoch(std::int64_t epoch) {
  faults_.check();
  // Nothing that an earlier epoch kept adds to this one's peak, which is the same in a resumed run. Captured graphs need it.
  if (!work_.captures()) losses_.clear(), pixels_.clear();
  epoch_ = epoch;
  batch_ = 0;
  data_.train->start(epoch);
}

BatchReport ClassificationTask::train_batch() {
  const ImageBatch* batch = data_.train->next();
  FROST_CHECK(batch, "the data ended before the epoch");
  if (data_.train_faults) faults_.of_training(data_.train_faults->take());
  if (plots && epoch_ == 0 && batch_ == 0) write_jpeg(folder_ / "train_images.jpg", draw_image_grid(*batch, model_.names));
  const Shape shape{batch->n, batch->side, batch->side, 3};
  LossState& loss = losses_.try_emplace(batch->n, device_, batch->n, plan_.label_smoothing).first->second;
  loss.grad_scale = loss_scale_;
  loss.set_labels(batch->labels);
  constexpr std::uint64_t kDropoutStream = 0x64726f706f757400;  // apart from the images' streams
  loss.set_seed(
      Rng(plan_.seed ^ kDropoutStream, static_cast<std::uint64_t>(epoch_), static_cast<std::uint64_t>(batch_)).next());
  Tensor pixels, input;
  if (work_.captures())
    pixels = uploaded(*batch, shape);
  else
    input = network_input(device_, batch->pixels, shape, normalise_, plan_.compute);
  work_.run({batch->n}, [&] {
    train_step({.device = device_, .frozen_bn = plan_.frozen_bn, .compute = plan_.compute}, model_,
               pixels ? normalise_(pixels, plan_.compute) : input, loss, plan_.recompute);
  });
  ++batch_;
  return {.instances = batch->n, .size = batch->side, .device_losses = loss.value()};
}

ValidationReport ClassificationTask::validate(Module& ema_model, std::int64_t, bool) {
  const ValidateOptions options{.compute = plan_.compute,
                                .cuda_graph = plan_.cuda_graph,
                                .label_smoothing = plan_.label_smoothing,
                                .label = fmt::format("{:>68}", data_.val_name == "test" ? "testing" : "validating"),
                                .observer = observer_,
                                .batch_done = {}};
  const Accuracy a = classify::validate(device_, dynamic_cast<Classifier&>(ema_model), *data_.val, options);
  if (data_.val_faults) faults_.of_validation(data_.val_faults->take());
  observer_.notice(fmt::format("{}{:>12.3g}{:>12.3g}{:>12.3g}\n", row_, a.loss, a.top1(), a.top5()));
  return {{a.loss, a.top1(), a.top5()}, a.top1()};
}

std::string ClassificationTask::table_header(std::int64_t) {
  if (std::exchange(printed_, true)) return "";
  return fmt::format("{:>10}{:>10}{:>12}{:>12}{:>12}{:>12}", "Epoch", "Memory", "train_loss", data_.val_name + "_loss",
                     "top1_acc", "top5_acc");
}

std::string ClassificationTask::table_row(const EpochProgress& p) {
  row_ = fmt::format("{:>10}{:>10}{:>12.3g}", fmt::format("{}/{}", p.epoch + 1, p.epochs),
                     fmt::format("{:.3g}G", p.gigabytes), p.losses[0]);
  return row_ + std::string(36, ' ');
}

void ClassificationTask::check_faults() {
  if (data_.val_faults) faults_.of_validation(data_.val_faults->take());
  faults_.check();
}

void ClassificationTask::judge(const std::filesystem::path& weights, const std::filesystem::path& folder) {
  const std::unique_ptr<Classifier> model = load_classifier(device_, weights);
  ValidateOptions options{.compute = plan_.compute, .cuda_graph = plan_.cuda_graph, .label = "", .batch_done = {}};
  if (plots) options.batch_done = first_image_grid(folder, model->names);
  const Accuracy accuracy = classify::validate(device_, *model, *data_.val, options);
  observer_.notice(fmt::format("\nValidating {}...\n{}", weights.string(), accuracy_table(accuracy, model->names)));
  write_confusion(folder / "confusion_matrix.csv", accuracy, model->names);
}

Tensor ClassificationTask::uploaded(const ImageBatch& batch, const Shape& shape) {
  Tensor& pixels = pixels_[batch.n];
  if (!pixels) pixels = Tensor(device_, shape, DType::u8, Role::input);
  device_.backend().upload(pixels.data(), batch.pixels.data(), static_cast<std::size_t>(shape.elements()));
  return pixels;
}

MakeTask noise_task(const StepPlan& plan, const NoiseOptions& options) {
  return [plan, options](Device& device, Model& model) -> std::unique_ptr<Task> {
    return std::make_unique<ClassificationTask>(device, dynamic_cast<Classifier&>(model), plan,
                                                noise_batches(device.backend(), model.classes(), options));
  };
}

}  // namespace frost::classify
