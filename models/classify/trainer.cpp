#include "models/classify/trainer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <memory>
#include <utility>

#include "engine/data/epoch_order.h"
#include "engine/image/codec.h"
#include "engine/nn/widths.h"
#include "engine/report/run_folder.h"
#include "engine/report/text.h"
#include "engine/tensor/run_device.h"
#include "engine/training/loop.h"
#include "models/classify/explain_run.h"
#include "models/classify/step.h"
#include "models/classify/validator.h"
#include "models/classify/weights.h"
#include "models/run/option_file.h"
#include "models/run/training.h"
#include "models/slim/plan.h"
#include "models/slim/prune.h"
#include "models/zoo/weights.h"

namespace frost::classify {
namespace {

/// Classification plugged into the training loop.
class ClassificationTask final : public TrainingTask {
 public:
  ClassificationTask(const TrainConfig& config, Device& device, Classifier& model, DType compute, const DataSplits& data,
                     int imgsz, int workers)
      : config_(config),
        device_(device),
        model_(model),
        compute_(compute),
        val_name_(data.val_name),
        normalise_(device, model.preprocessing()),
        work_(device, &model, config.cuda_graph),
        train_faults_(std::make_shared<PictureFaults>(data.train.size())),
        val_faults_(std::make_shared<PictureFaults>(data.val.size())),
        faults_(config.strict) {
    ImageLoaderOptions options{.side = imgsz,
                               .batch_size = config.batch_size,
                               .augment = !config.noaugment,
                               .shuffle = true,
                               .square = model.preprocessing().framing == Preprocessing::Framing::square,
                               .cache = !config.cache.empty(),
                               .stand_ins = true,
                               .seed = config.seed,
                               .threads = workers,
                               .faults = train_faults_};
    train_ = make_image_loader(std::make_shared<ImageFolder>(data.train), options);
    options.batch_size *= 2, options.augment = options.shuffle = options.stand_ins = false;
    options.faults = val_faults_;
    val_ = make_image_loader(std::make_shared<ImageFolder>(data.val), options);
  }
  void pictures(const std::filesystem::path& folder) { folder_ = folder; }

  std::vector<std::string> loss_names() const override { return {"loss"}; }
  std::vector<std::string> metric_columns() const override {
    return {val_name_ + "/loss", "metrics/accuracy_top1", "metrics/accuracy_top5"};
  }
  std::int64_t batches_per_epoch() const override { return train_->batches(); }
  void begin_epoch(std::int64_t epoch) override {
    faults_.check();
    // Nothing that an earlier epoch kept adds to this one's peak, which is the same in a resumed run. Recordings need it.
    if (!work_.captures()) losses_.clear(), pixels_.clear();
    epoch_ = epoch;
    batch_ = 0;
    train_->start(epoch);
  }

  BatchReport train_batch() override {
    const ImageBatch* batch = train_->next();
    FROST_CHECK(batch, "the data ended before the epoch");
    faults_.of_training(train_faults_->take());
    if (!folder_.empty() && epoch_ == 0 && batch_ == 0)
      write_jpeg(folder_ / "train_images.jpg", draw_sheet(*batch, model_.names));
    const Shape shape{batch->n, batch->side, batch->side, 3};
    LossState& loss =
        losses_.try_emplace(batch->n, device_, batch->n, static_cast<float>(config_.label_smoothing)).first->second;
    loss.grad_scale = loss_scale_;
    loss.set_labels(batch->labels);
    constexpr std::uint64_t kDropoutStream = 0x64726f706f757400;  // apart from the images' streams
    loss.set_seed(
        Rng(config_.seed ^ kDropoutStream, static_cast<std::uint64_t>(epoch_), static_cast<std::uint64_t>(batch_)).next());
    Tensor pixels, input;
    if (work_.captures())
      pixels = uploaded(*batch, shape);
    else
      input = network_input(device_, batch->pixels, shape, normalise_, compute_);
    work_.run({batch->n}, [&] {
      train_step({.device = device_, .frozen_bn = config_.frozen_bn, .compute = compute_}, model_,
                 pixels ? normalise_(pixels, compute_) : input, loss, config_.recompute);
    });
    ++batch_;
    return {.instances = batch->n, .size = batch->side, .device_losses = loss.value()};
  }
  void use_loss_scale(const Tensor& scale) override { loss_scale_ = scale; }
  /// Parameters have woken up: captured steps know neither their gradients nor where they are now.
  void forget_steps() { work_.forget(); }

  ValidationReport validate(Module& averaged, std::int64_t, bool) override {
    const ValidateOptions options{.compute = compute_,
                                  .cuda_graph = config_.cuda_graph,
                                  .label_smoothing = static_cast<float>(config_.label_smoothing),
                                  .progress = true,
                                  .label = fmt::format("{:>68}", val_name_ == "test" ? "testing" : "validating"),
                                  .batch_done = {}};
    const Accuracy a = classify::validate(device_, dynamic_cast<Classifier&>(averaged), *val_, options);
    faults_.of_validation(val_faults_->take());
    fmt::print("{}{:>12.3g}{:>12.3g}{:>12.3g}\n", row_, a.loss, a.top1(), a.top5());
    std::fflush(stdout);
    return {{a.loss, a.top1(), a.top5()}, a.top1()};
  }

  std::string table_header(std::int64_t) override {
    if (std::exchange(printed_, true)) return "";
    return fmt::format("{:>10}{:>10}{:>12}{:>12}{:>12}{:>12}", "Epoch", "Memory", "train_loss", val_name_ + "_loss",
                       "top1_acc", "top5_acc");
  }
  std::string table_row(const EpochProgress& p) override {
    row_ = fmt::format("{:>10}{:>10}{:>12.3g}", fmt::format("{}/{}", p.epoch + 1, p.epochs),
                       fmt::format("{:.3g}G", p.gigabytes), p.losses[0]);
    return row_ + std::string(36, ' ');
  }

  Metadata metadata() const override { return model_.metadata(); }
  ImageLoader& val_loader() { return *val_; }
  /// After the last validations: says what they could not decode, which --strict does not let pass.
  void check_faults() {
    faults_.of_validation(val_faults_->take());
    faults_.check();
  }

 private:
  /// The batch in memory that is the same for each batch of its size: captured steps read it there.
  Tensor uploaded(const ImageBatch& batch, const Shape& shape) {
    Tensor& pixels = pixels_[batch.n];
    if (!pixels) pixels = Tensor(device_, shape, DType::u8, Role::input);
    device_.backend().upload(pixels.data(), batch.pixels.data(), static_cast<std::size_t>(shape.elements()));
    return pixels;
  }

  const TrainConfig& config_;
  Device& device_;
  Classifier& model_;
  DType compute_;
  std::string val_name_;
  Normaliser normalise_;
  std::map<std::int64_t, LossState> losses_;  // by the images in a batch
  std::map<std::int64_t, Tensor> pixels_;
  Tensor loss_scale_;  // f16 training
  CapturedStep work_;
  std::shared_ptr<PictureFaults> train_faults_, val_faults_;
  run::FaultReports faults_;
  std::unique_ptr<ImageLoader> train_, val_;
  std::filesystem::path folder_;
  std::int64_t epoch_ = 0, batch_ = 0;
  bool printed_ = false;
  std::string row_;  // the epoch's, which the validation completes
};

bool is_file_name(const std::string& text) {
  return text.ends_with(".pt") || text.ends_with(".pth") || text.ends_with(".safetensors");
}

struct Built {
  std::unique_ptr<Classifier> model;
  MakeClassifier make;  // the same again, without values
  std::string fresh;    // the module that weights never fill when a new head is asked for: `fc`, a detector's `model.9`
};
/// The model of --model and --weights, for the data's classes.
Built build(const TrainConfig& config, Device& device, const std::vector<std::string>& classes) {
  std::string architecture = config.model, file = config.weights;
  if (is_file_name(architecture)) {
    FROST_CHECK(file.empty(), "--model ", architecture, " is a file of weights, and --weights names another one");
    file = architecture, architecture.clear();
  }
  const auto weights = std::make_shared<ClassifierWeights>();
  if (!file.empty()) {
    *weights = read_classifier_weights(find_weights(file));
    if (weights->architecture.empty()) weights->architecture = architecture;
    FROST_CHECK(architecture.empty() || architecture == weights->architecture, weights->file, ": ",
                weights->detector ? "becomes a " : "holds a ", weights->architecture, ", --model says ", architecture);
  }
  const auto make = [config, architecture, weights, classes](Device& on, Seed seed) {
    const int count = static_cast<int>(classes.size());
    auto model = weights->file.empty()
                     ? make_classifier(on, architecture, count, seed, config.cutoff)
                     : build_classifier(on, *weights, count, seed, weights->detector ? config.cutoff : weights->cutoff);
    model->names = classes;
    if (config.dropout >= 0) model->set_dropout(static_cast<float>(config.dropout));
    return model;
  };
  Built built{.model = make(device, config.seed), .make = {}, .fresh = {}};
  if (!config.pretrained) weights->state = StateDict();
  if (!weights->state.empty()) {
    for (const std::string& line : take_weights(*built.model, *weights, config.feature_extract)) fmt::print("{}\n", line);
    if (const std::string line = slim::sparsity_line(slim::sparsity(*built.model)); !line.empty())
      fmt::print("{}: zeros stay zero\n", line);
  }
  weights->state = StateDict();
  built.make = [make, widths = widths_of(*built.model)](Device& on) {
    auto copy = make(on, {});
    fit_widths(*copy, widths);  // filters may have been pruned
    return copy;
  };
  built.fresh = built.model->head().name();
  if (weights->detector) built.fresh = built.fresh.substr(0, built.fresh.rfind(".linear"));
  return built;
}

/// What is left to train.
void print_trainable(Classifier& model) {
  std::int64_t all = 0, trained = 0;
  std::size_t tensors = 0;
  std::string list;
  for (const Parameter* p : model.parameters()) {
    all += p->value.elements();
    if (!p->trainable) continue;
    trained += p->value.elements();
    ++tensors;
    if (tensors <= 12) list += fmt::format("  {} {}\n", p->name, shape_text(p->torch_shape));
  }
  if (trained < all)
    fmt::print("{}{} of {} parameters in {} tensors\n{}{}", bold_blue("trainable: "), trained, all, tensors, list,
               tensors > 12 ? "  ...\n" : "");
}

LoopOptions loop_options(const TrainConfig& config, std::int64_t batches, const std::filesystem::path& folder,
                         DType compute) {
  return {.schedule = {.lr0 = config.lr0,
                       .lrf = 0.01,
                       .momentum = 0.9,
                       .warmup_epochs = 0,
                       .warm_momentum = false,
                       .lag = false,
                       .epochs = config.epochs,
                       .batches_per_epoch = batches,
                       .batch_size = config.batch_size,
                       .nominal_batch = config.batch_size,
                       .minimum_warmup = 0},
          .optimizer = config.optimizer,
          .loss_scaling = compute == DType::f16,
          .cuda_graph = config.cuda_graph,
          .patience = 0,
          .save_period = config.save_period,
          .nosave = config.nosave,
          .folder = folder,
          .lr_columns = {"lr/0"},
          .csv_width = 23,
          .next_lr = true};
}

/// Judges the finished run's checkpoint, class by class, with a sheet of predictions.
void validate_result(const TrainConfig& config, const RunDevice& run, ClassificationTask& task,
                     const std::filesystem::path& weights, const std::filesystem::path& folder) {
  const std::unique_ptr<Classifier> model = load_classifier(*run.device, weights);
  ValidateOptions options{
      .compute = run.compute, .cuda_graph = config.cuda_graph, .progress = false, .label = "", .batch_done = {}};
  if (!config.noplots) options.batch_done = first_sheet(folder, model->names);
  const Accuracy accuracy = validate(*run.device, *model, task.val_loader(), options);
  fmt::print("\nValidating {}...\n{}", weights.string(), accuracy_table(accuracy, model->names));
  write_confusion(folder / "confusion_matrix.csv", accuracy, model->names);
}

}  // namespace

std::filesystem::path train(const TrainConfig& given) {
  TrainConfig config = given;
  std::filesystem::path folder = run::take_up(config);
  std::unique_ptr<RunLock> lock;  // of the folder, as long as this runs
  if (!folder.empty()) {
    if (!given.dry_run) lock = run::take_folder(folder, false);
    config.model = config.resume, config.weights.clear();  // the graph and the head are the checkpoint's,
    config.feature_extract = false;                        // which is not new any more
    config.dry_run = given.dry_run;
  }
  if (config.feature_extract) {
    const bool weights = config.pretrained && (!config.weights.empty() || is_file_name(config.model));
    FROST_CHECK(weights, "--feature-extract needs --weights: a frozen network of random weights has no features");
    FROST_CHECK(config.freeze == TrainConfig().freeze, "--feature-extract says what is frozen; leave --freeze out");
  }
  FROST_CHECK(!config.data.empty(),
              "--data is missing: a folder with train/ and val/ (or test/), one folder for each class");
  const RunDevice run_device(config.device, config.precision, {config.deterministic, config.tf32});
  config.precision = name_of(run_device.compute);  // a resumed run goes on as it began
  Device& device = *run_device.device;
  fmt::print("{}{}\n{}\n\n", bold_blue("classify/train: "), run::options_line(config), run_device.line);

  const DataSplits data = find_splits(config.data);
  report_scan(data.train, config.strict), report_scan(data.val, config.strict);
  config.batch_size = static_cast<int>(std::min<std::int64_t>(config.batch_size, data.train.size()));
  const int imgsz = Classifier::whole_strides(config.imgsz);

  const auto [model, make, fresh] = build(config, device, data.train.classes);
  if (config.feature_extract) config.freeze = {"!" + fresh};  // a resumed run finds it in opt.yaml
  slim::Plan plan(*model, model->layers(), slim::plan_flags(config));
  print_trainable(*model);
  for (const std::string& line : plan.rates()) fmt::print("{}\n", line);
  if (config.verbose)
    for (const Parameter* p : model->parameters())
      fmt::print("{:<40}{:<20}{}\n", p->name, shape_text(p->torch_shape), p->trainable ? "" : "frozen");
  fmt::print("{}\n", model->summary(imgsz));
  if (config.dry_run) {
    config.freeze = plan.begin_last_stage();
    explain_training(config, *model, make, imgsz, run_device);
    return {};
  }

  // The arena takes the parameters' memory over: everything that copies the model comes after it.
  ParameterArena arena(device, *model, static_cast<float>(config.decay), true);
  fmt::print("{}\n", run::optimizer_line(arena, config.optimizer, config.lr0, config.decay));
  ModelAverage average(device, *model, arena, moving_statistics(*model, config.frozen_bn));
  const std::unique_ptr<Classifier> twin = make(device);

  const int workers = worker_count(config.workers, config.batch_size);
  ClassificationTask task(config, device, *model, run_device.compute, data, imgsz, workers);
  if (folder.empty()) {
    run::check_start(*model);
    folder = make_run_folder(config.project, config.name, config.exist_ok);
    lock = run::take_folder(folder, true);
  }
  if (!config.noplots) task.pictures(folder);
  if (config.resume.empty())
    run::keep_options(config, folder, {&TrainConfig::data, &TrainConfig::weights, &TrainConfig::model});

  LoopOptions options = loop_options(config, task.batches_per_epoch(), folder, run_device.compute);
  options.run = run::id_of(config);
  plan.steer(options, arena, [&] { task.forget_steps(); });
  TrainingLoop loop(device, *model, *twin, arena, average, task, std::move(options));
  if (!config.resume.empty()) run::go_on(loop, config.resume, config.epochs);
  fmt::print(
      "Image sizes {} train, {} {}\nUsing {} dataloader workers\nLogging results to {}\nStarting {} training on {} dataset "
      "with {} classes for {} epochs...\n\n",
      imgsz, imgsz, data.val_name, workers, bold(folder.string()), model->architecture(),
      std::filesystem::path(config.data).lexically_normal().string(), model->classes(), config.epochs);
  std::fflush(stdout);
  loop.run();
  task.check_faults();

  run::print_costs(loop, *model, data.train.size());
  validate_result(config, run_device, task, loop.result(), folder);
  task.check_faults();
  loop.finish();
  const std::string weights = loop.result().string();
  fmt::print(
      "Results saved to {}\nPredict:  classify-predict --weights {} --source im.jpg\nValidate: classify-val --weights {} "
      "--data {}\n",
      bold(folder.string()), weights, weights, config.data);
  std::fflush(stdout);
  return folder;
}

}  // namespace frost::classify
