#include "engine/training/loop.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "engine/base/interrupt.h"
#include "engine/checkpoint/sparse_checkpoint.h"
#include "engine/report/run_folder.h"
#include "engine/training/run_checkpoints.h"

namespace frost {
namespace {
using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

constexpr std::int64_t kReadInterval = 20;  // batches whose losses are read at once

/// Share of zeros in each masked parameter and in all parameters; nothing for a dense model.
std::map<std::string, double> sparsity_of(Module& model) {
  std::map<std::string, double> shares;
  std::ptrdiff_t zeros = 0, count = 0;
  for (const Parameter* p : model.parameters()) {
    const std::vector<float> values = p->value.to_vector();
    const auto here = std::count(values.begin(), values.end(), 0.0f);
    zeros += here, count += std::ssize(values);
    if (p->mask) shares[p->name] = static_cast<double>(here) / static_cast<double>(values.size());
  }
  if (!shares.empty()) shares["all parameters"] = static_cast<double>(zeros) / static_cast<double>(count);
  return shares;
}

/// A checkpoint that may be there.
struct Found {
  SafetensorsFile file;
  std::string cause;  // why it cannot be read; "" where it can, or where nothing is there
};
Found find_checkpoint(const std::filesystem::path& file) {
  std::error_code error;
  if (!std::filesystem::exists(std::filesystem::symlink_status(file, error))) return {};
  try {
    return {read_checkpoint(file), ""};
  } catch (const std::exception& e) {
    return {{}, e.what()};
  }
}

/// The epoch whose weights a checkpoint holds; nothing where it does not say.
std::optional<std::int64_t> epoch_of(const Metadata& about) {
  const auto text = about.find(kOwnEpochKey);
  std::int64_t epoch = 0;
  if (text == about.end()) return {};
  const auto [end, error] = std::from_chars(text->second.data(), text->second.data() + text->second.size(), epoch);
  return error == std::errc() && *end == 0 ? std::optional(epoch) : std::nullopt;
}

/// The same of its run: LoopOptions::run.
std::string run_of(const Metadata& about) {
  const auto run = about.find(kRunKey);
  return run == about.end() ? "" : run->second;
}

/// Removes a file at a checkpoint's path that cannot be read (cut off, a link to itself), with a notice that says so.
void remove_unreadable(const std::filesystem::path& file, const std::string& cause, Observer& observer) {
  std::error_code error;
  const bool removed = std::filesystem::remove(file, error);
  observer.notice(fmt::format("WARNING: {}: {}, it cannot be read ({})\n", file.string(),
                              removed ? "removed" : "cannot be removed", cause));
}
}  // namespace

TrainingLoop::TrainingLoop(Device& device, Module& model, Module& ema_model, ParameterArena& arena, ModelEma& ema,
                           TrainingTask& task, LoopOptions options, Observer& observer)
    : device_(device),
      model_(model),
      ema_model_(ema_model),
      arena_(arena),
      ema_(ema),
      task_(task),
      options_(std::move(options)),
      observer_(observer),
      updater_(device, arena, ema, options_.schedule, options_.optimizer, options_.clip, options_.loss_scaling,
               options_.cuda_graph) {
  if (options_.loss_scaling) task_.use_loss_scale(updater_.optimizer().loss_scale());
  const std::int64_t interval = device_.backend().can_capture() ? kReadInterval : 1;
  losses_ = Tensor(device_, {1, 1, 1, interval * std::ssize(task_.loss_names())}, DType::f32, Role::workspace);
  metrics_.assign(task_.metric_columns().size(), 0.0);  // what rows of epochs without validation say
  summary_.batch_size = options_.schedule.batch_size;
  for (const Parameter* p : model_.parameters()) summary_.parameters += p->value.elements();
  count_trainable();
  ema_.alias(ema_model_);  // from here on it needs no memory of its own
}

void TrainingLoop::unfreeze(std::int64_t epoch, std::int64_t steps) {
  updater_.unfreeze(steps);
  ema_.alias(ema_model_);
  unfreezes_.emplace_back(epoch, steps);
  count_trainable();
}

void TrainingLoop::count_trainable() {
  summary_.trainable = 0;
  for (const Parameter* p : model_.parameters())
    if (p->trainable) summary_.trainable += p->value.elements();
}

void TrainingLoop::train_epoch(std::int64_t epoch) {
  const std::vector<std::string> names = task_.loss_names();
  if (const std::string header = task_.table_header(epoch); !header.empty()) observer_.notice(header + "\n");

  const std::int64_t batches = task_.batches_per_epoch();
  updater_.begin_epoch();
  task_.begin_epoch(epoch);
  mean_losses_.assign(names.size(), 0.0);
  device_.ledger().reset_peaks();  // what training needs, without validation and its larger batches
  const auto start = Clock::now();
  Progress bar(observer_, "", batches);
  for (std::int64_t i = 0; i < batches; ++i) {
    if (InterruptGuard::requested()) interrupted("in", epoch);
    lr_ = updater_.begin_batch(epoch, i).lr;

    if (options_.before_batch) options_.before_batch(epoch, i);
    const BatchReport report = task_.train_batch();
    const bool stepped = updater_.end_batch();
    note_losses(epoch, i, report);
    ++summary_.steps;
    if (stepped && waiting_ == 0 && !warned_) check_gradients(epoch, i);
    const double gigabytes = static_cast<double>(device_.ledger().total().peak) / 1e9;
    const EpochProgress progress{epoch, options_.schedule.epochs, gigabytes, mean_losses_, report.instances, report.size};
    observer_.batch_done(progress);
    bar.label(task_.table_row(progress));
    bar.advance();
  }
  bar.finish();
  summary_.train_seconds += seconds_since(start);
  summary_.note_peaks(device_.ledger());
  ++summary_.epochs;
}

void TrainingLoop::note_losses(std::int64_t epoch, std::int64_t batch, const BatchReport& report) {
  if (!report.device_losses) return take_losses(epoch, batch, report.losses);
  // Reading waits for all that is queued. If the device works asynchronously, several batches are read at once.
  const std::int64_t interval = losses_.elements() / std::ssize(task_.loss_names()), count = report.device_losses.elements();
  device_.backend().copy({.x = report.device_losses, .y = losses_.part(waiting_ * count, {1, 1, 1, count})});
  if (++waiting_ < interval && batch + 1 < task_.batches_per_epoch()) return;
  const std::vector<float> values = losses_.to_vector();
  const std::vector<double> losses(values.begin(), values.end());
  const std::int64_t first = batch + 1 - waiting_;
  for (std::int64_t i = 0, read = std::exchange(waiting_, 0); i < read; ++i)
    take_losses(epoch, first + i,
                std::span(losses).subspan(static_cast<std::size_t>(i * count), static_cast<std::size_t>(count)));
}

void TrainingLoop::take_losses(std::int64_t epoch, std::int64_t batch, std::span<const double> losses) {
  for (std::size_t k = 0; k < losses.size(); ++k) {
    if (!std::isfinite(losses[k]))
      fail(task_.loss_names()[k], " is ", losses[k], " in epoch ", epoch, ", batch ", batch, loss_scale_note(),
           ": training has diverged (lower lr0?); ", last_good());
    mean_losses_[k] = (mean_losses_[k] * static_cast<double>(batch) + losses[k]) / static_cast<double>(batch + 1);
  }
}

std::string TrainingLoop::loss_scale_note() const {
  if (!options_.loss_scaling) return "";
  const UpdateState state = updater_.optimizer().state();
  return fmt::format(" (loss scale {:g}, {} steps skipped)", state.loss_scale.scale, state.skipped);
}

void TrainingLoop::check_gradients(std::int64_t epoch, std::int64_t batch) {
  const UpdateState state = updater_.optimizer().state();
  // Overflows lower the loss scale until steps succeed; below 1 something else is wrong.
  if (state.skipped == 0 || (options_.loss_scaling && state.loss_scale.scale >= 1)) return;
  warned_ = true;
  observer_.warning(fmt::format("\nWARNING: a gradient is not finite in epoch {}, batch {}: this step is skipped{}\n", epoch,
                                batch,
                                options_.loss_scaling ? fmt::format(" (loss scale {:g})", state.loss_scale.scale) : ""));
}

void TrainingLoop::interrupted(const char* when, std::int64_t epoch) const {
  fail("interrupted ", when, " epoch ", epoch, "; ",
       can_resume_       ? "go on with --resume " + last().string()
       : options_.nosave ? "with --nosave nothing was saved yet"
                         : "no epoch was finished, nothing was saved");
}

bool TrainingLoop::may_stop_after(std::int64_t epoch) const {
  return options_.patience > 0 && epoch - best_epoch_ >= options_.patience - 1;
}

bool TrainingLoop::stops_after(std::int64_t epoch) const {
  return options_.patience > 0 && epoch - best_epoch_ >= options_.patience;
}

bool TrainingLoop::training_left() const {
  return start_epoch_ < options_.schedule.epochs && !(validated_ && stops_after(start_epoch_ - 1));
}

void TrainingLoop::run() {
  make_folders(options_.folder / "weights");
  std::vector<std::string> columns{"epoch"};
  for (const std::string& name : task_.loss_names()) columns.push_back("train/" + name);
  for (const std::string& name : task_.metric_columns()) columns.push_back(name);
  for (const std::string& name : options_.lr_columns) columns.push_back(name);
  remove_run_summary(options_.folder);  // a finished run left one
  ResultsCsv csv(options_.folder / "results.csv", columns, options_.csv_width);
  const bool noted = csv.keep(start_epoch_);

  const InterruptGuard guard;
  const auto start = Clock::now();
  const std::int64_t epochs = options_.schedule.epochs;
  std::int64_t epoch = start_epoch_;
  if (!validated_) {
    end_epoch(csv, epoch - 1);
  } else if (epoch > 0 && !noted && !mean_losses_.empty()) {
    csv.append(row_of(epoch - 1));
  }
  for (; epoch < epochs && !stops_after(epoch - 1); ++epoch) {
    if (options_.unfreeze && options_.unfreeze(epoch)) unfreeze(epoch, updater_.optimizer().state().steps);
    train_epoch(epoch);
    end_epoch(csv, epoch);
  }
  if (stops_after(epoch - 1))
    observer_.notice(fmt::format(
        "Stopping training early as no improvement observed in last {} epochs. Best results observed at epoch {}, {} saved "
        "as {}.\nTo update EarlyStopping(patience={}) pass a new patience value, i.e. --patience 300 or use --patience 0 to "
        "disable EarlyStopping.\n",
        options_.patience, best_epoch_, written_best_ == best_epoch_ ? "best model" : "which was not saved; a model is",
        result().filename().string(), options_.patience));
  observer_.notice(
      fmt::format("\n{} epochs completed in {:.3f} hours.\n", epoch - start_epoch_, seconds_since(start) / 3600));
  // What an earlier run left in a reused folder is not touched.
  if (written_best_) summary_.files[best().filename().string()] = strip_checkpoint(best(), observer_);
  summary_.files[last().filename().string()] = stripped_checkpoint_size(last());
  summary_.sparsity = sparsity_of(model_);
  write_run_summary(options_.folder, summary_);
}

void TrainingLoop::finish() { strip_checkpoint(last(), observer_); }

void TrainingLoop::end_epoch(ResultsCsv& csv, std::int64_t epoch) {
  const bool last_epoch = epoch + 1 == options_.schedule.epochs || may_stop_after(epoch - 1);
  const bool saved = !options_.nosave || last_epoch;
  double fitness = 0;
  if (!options_.noval || last_epoch) {
    ema_.alias(ema_model_);
    try {
      const ValidationReport report = task_.validate(ema_model_, epoch, last_epoch);
      metrics_ = report.metrics;
      fitness = report.fitness;
      forget_derived(
          ema_model_);  // else the next epoch's peaks would depend on whether this process validated the one before
    } catch (const Interrupted&) {
      if (saved) save_unvalidated(epoch);
      interrupted("while validating", epoch);
    } catch (const std::exception&) {
      if (saved) save_unvalidated(epoch);
      throw;
    }
  }
  const StateDict state = checked_state(epoch);
  for (std::size_t i = 0; i < metrics_.size(); ++i)
    FROST_CHECK(std::isfinite(metrics_[i]), task_.metric_columns()[i], " is ", metrics_[i], " after epoch ", epoch,
                ": training has diverged (lower lr0?); ", last_good());
  note_fitness(epoch, fitness);
  if (saved) {
    // `last` first: from it a resumed run can write the files that are missing after it.
    const Metadata about = metadata(epoch, true);
    write_checkpoint(last(), state, about);
    observer_.checkpoint_saved(last().string());
    can_resume_ = true;
    write_extra_checkpoints(epoch, state, about);
  }
  const std::vector<double> row = row_of(epoch);
  csv.append(row);
  observer_.epoch_done({epoch, csv.columns(), row});
}

void TrainingLoop::note_fitness(std::int64_t epoch, double fitness) {
  const bool may_be_best = epoch >= options_.best_from;
  if (!may_be_best) fitness = 0;
  if (fitness >= stopper_best_ || !may_be_best) stopper_best_ = fitness, best_epoch_ = epoch;
  is_best_ = may_be_best && fitness >= best_fitness_;
  if (!is_best_) return;
  best_fitness_ = fitness;
  summary_.best_epoch = epoch;
  summary_.best.clear();
  for (std::size_t i = 0; i < metrics_.size(); ++i) summary_.best.emplace_back(task_.metric_columns()[i], metrics_[i]);
}

void TrainingLoop::save_unvalidated(std::int64_t epoch) {
  write_checkpoint(last(), checked_state(epoch), metadata(epoch, false));
  can_resume_ = true;
  observer_.notice(fmt::format("Epoch {} is saved as {}, to be validated by --resume\n", epoch, last().string()));
}

void TrainingLoop::write_extra_checkpoints(std::int64_t epoch, const StateDict& tensors, const Metadata& about) {
  const auto write = [&](const std::filesystem::path& file) {
    std::error_code error;
    const bool there = std::filesystem::exists(file, error);
    if (!there && error) remove_unreadable(file, error.message(), observer_);  // a link to itself
    write_checkpoint(file, tensors, about);
  };
  if (is_best_) {
    write(best());
    written_best_ = epoch;
  }
  if (options_.save_period > 0 && epoch % options_.save_period == 0) write(numbered(epoch));
}

std::vector<double> TrainingLoop::row_of(std::int64_t epoch) const {
  std::vector<double> row{static_cast<double>(epoch)};
  row.insert(row.end(), mean_losses_.begin(), mean_losses_.end());
  row.insert(row.end(), metrics_.begin(), metrics_.end());
  std::array<double, 3> lr = lr_;
  if (options_.next_lr) lr.fill(updater_.lr_of(epoch + 1));
  row.insert(row.end(), lr.begin(), lr.begin() + std::ssize(options_.lr_columns));
  return row;
}

StateDict TrainingLoop::checked_state(std::int64_t epoch) const {
  StateDict all = state_of(model_);
  for (const auto& [name, tensor] : ema_.state()) all.add("ema." + name, tensor);
  for (ParameterGroup& group : arena_.groups()) {
    for (std::size_t i = 0; i < group.members.size(); ++i) {
      const Parameter& p = *group.members[i];
      all.add("optimizer.momentum." + p.name,
              to_host(group.momentum.part(group.offsets[i], p.value.shape()), p.torch_shape));
      if (group.second_moment)
        all.add("optimizer.second_moment." + p.name,
                to_host(group.second_moment.part(group.offsets[i], p.value.shape()), p.torch_shape));
    }
  }
  for (const auto& [name, tensor] : all)
    FROST_CHECK(tensor.all_finite(), name, " is not finite after epoch ", epoch, ": training has diverged (lower lr0?); ",
                last_good());
  return all;
}

Metadata TrainingLoop::metadata(std::int64_t epoch, bool validated) const {
  Metadata about = task_.metadata();
  about["epoch"] = about[kOwnEpochKey] = std::to_string(epoch);
  if (!options_.run.empty()) about[kRunKey] = options_.run;
  about["best_fitness"] = fmt::format("{:.17g}", best_fitness_);
  const bool is_best = validated && is_best_;
  const UpdateState state = updater_.optimizer().state();
  about[kTrainingStateKey] = nlohmann::json{{"epoch", epoch},
                                            {"epochs", options_.schedule.epochs},
                                            {"validated", validated},
                                            {"losses", mean_losses_},
                                            {"metrics", metrics_},
                                            {"lr", lr_},
                                            {"is_best", is_best},
                                            {"written_best", is_best ? epoch : written_best_.value_or(-1)},
                                            {"best_fitness", best_fitness_},
                                            {"stopper_best", stopper_best_},
                                            {"best_epoch", best_epoch_},
                                            {"best", {{"epoch", summary_.best_epoch}, {"metrics", summary_.best}}},
                                            {"last_step", updater_.last_step()},
                                            {"steps", state.steps},
                                            {"ema_updates", state.ema_updates},
                                            {"skipped", state.skipped},
                                            {"loss_scale", state.loss_scale.scale},
                                            {"good_steps", state.loss_scale.good_steps},
                                            {"optimizer", name_of(options_.optimizer)},
                                            {"wakes", unfreezes_},
                                            {"batches_per_epoch", task_.batches_per_epoch()}}
                                 .dump();
  const nlohmann::json costs{{"epochs", summary_.epochs},
                             {"steps", summary_.steps},
                             {"train_seconds", summary_.train_seconds},
                             {"peak_total", summary_.peak_total},
                             {"peaks", summary_.peaks}};
  about[kTrainingCostsKey] = costs.dump();
  return about;
}

std::string TrainingLoop::last_good() const {
  return can_resume_ ? "the last good checkpoint is " + last().string() : "no checkpoint was written yet";
}

void TrainingLoop::resume(const std::filesystem::path& file) {
  const SafetensorsFile saved = read_checkpoint(file);
  if (!saved.metadata.contains(kTrainingStateKey))
    fail(file.string(), ": training is finished, nothing to resume. Start a new training with --weights ", file.string());
  const nlohmann::json json = training_state(saved.metadata, file);
  std::int64_t batches = 0, last_step = -1;
  UpdateState state = updater_.optimizer().state();
  std::vector<std::pair<std::int64_t, std::int64_t>> unfreezes;
  try {
    start_epoch_ = json.at("epoch").get<std::int64_t>() + 1;
    best_fitness_ = json.at("best_fitness");
    stopper_best_ = json.at("stopper_best");
    best_epoch_ = json.at("best_epoch");
    if (json.contains("best")) {
      summary_.best_epoch = json["best"].at("epoch");
      for (const auto& metric : json["best"].at("metrics"))  // JSON has no NaN: it writes null
        summary_.best.emplace_back(metric.at(0).get<std::string>(),
                                   metric.at(1).is_null() ? std::nan("") : metric.at(1).get<double>());
    }
    validated_ = json.value("validated", true);
    if (json.contains("losses")) {  // older files have none: their row was written before them
      mean_losses_ = json["losses"].get<std::vector<double>>();
      metrics_ = json.at("metrics").get<std::vector<double>>();
      lr_ = json.at("lr").get<std::array<double, 3>>();
      is_best_ = json.at("is_best");
      FROST_CHECK(std::ssize(mean_losses_) == std::ssize(task_.loss_names()) &&
                      std::ssize(metrics_) == std::ssize(task_.metric_columns()),
                  file.string(), ": its training state has ", mean_losses_.size(), " losses and ", metrics_.size(),
                  " metrics, this training ", task_.loss_names().size(), " and ", task_.metric_columns().size());
    }
    if (!json.contains("written_best")) {  // older files say at most whether there was one; `best` itself says which
      const Metadata about = find_checkpoint(best()).file.metadata;
      const std::int64_t own = run_of(about).empty() ? epoch_of(about).value_or(best_epoch_) : best_epoch_;
      if (json.value("best_written", true)) written_best_ = own < start_epoch_ ? own : best_epoch_;
    } else if (const std::int64_t written = json["written_best"]; written >= 0) {
      written_best_ = written;
    }
    batches = json.at("batches_per_epoch");
    last_step = json.at("last_step");
    state.steps = json.at("steps");
    state.ema_updates = json.at("ema_updates");
    state.skipped = json.value("skipped", state.skipped);
    state.loss_scale = {json.value("loss_scale", state.loss_scale.scale), json.value("good_steps", 0)};
    if (json.contains("costs")) {
      const nlohmann::json& before = json["costs"];
      summary_.epochs = before.at("epochs");
      summary_.steps = before.at("steps");
      summary_.train_seconds = before.at("train_seconds");
      summary_.peak_total = before.at("peak_total");
      summary_.peaks = before.at("peaks");
    }
    if (json.contains("wakes")) unfreezes = json["wakes"].get<decltype(unfreezes)>();
    FROST_CHECK(json.at("optimizer") == name_of(options_.optimizer), file.string(), ": was trained with ",
                json.at("optimizer").get<std::string>(), ", not with ", name_of(options_.optimizer));
  } catch (const nlohmann::json::exception& e) {
    fail(file.string(), ": its training state cannot be read: ", e.what());
  }
  FROST_CHECK(start_epoch_ <= options_.schedule.epochs, file.string(), ": is of epoch ", start_epoch_ - 1, ", the run has ",
              options_.schedule.epochs, " epochs");
  FROST_CHECK(batches == task_.batches_per_epoch(), file.string(), ": an epoch had ", batches, " batches, now it has ",
              task_.batches_per_epoch(), "; resume with the same data and batch size");
  can_resume_ = true;
  options_.run = run_of(saved.metadata);
  for (const auto& [epoch, before] : unfreezes) {
    FROST_CHECK(options_.unfreeze && options_.unfreeze(epoch), file.string(), ": parameters were unfrozen in epoch ", epoch,
                ", but these options unfreeze nothing then");
    unfreeze(epoch, before);
  }
  updater_.restore(start_epoch_, last_step, state);
  const LoadReport report = load_state(model_, saved.tensors);
  FROST_CHECK(report.missing.empty() && report.other_shape.empty(), file.string(), ": is not a checkpoint of this model (",
              report.copied, " of ", report.total, " tensors fit)");
  ema_.restore(saved.tensors.below("ema."));
  const auto restore = [&](const std::string& name, const Parameter& p, Tensor to) {
    FROST_CHECK(saved.tensors.find(name), file.string(), ": ", name, " is missing");
    from_host(saved.tensors.at(name), p.torch_shape, to);
  };
  for (ParameterGroup& group : arena_.groups()) {
    for (std::size_t i = 0; i < group.members.size(); ++i) {
      const Parameter& p = *group.members[i];
      restore("optimizer.momentum." + p.name, p, group.momentum.part(group.offsets[i], p.value.shape()));
      if (!group.second_moment) continue;
      restore("optimizer.second_moment." + p.name, p, group.second_moment.part(group.offsets[i], p.value.shape()));
    }
  }
  // Resumed from another file, the run is at that epoch: after an interruption it must not continue from a later `last`.
  std::error_code error;
  if (!std::filesystem::equivalent(file, last(), error)) write_checkpoint(last(), saved.tensors, saved.metadata);
  // Write what a process that was killed after `last` could not write.
  if (validated_) write_extra_checkpoints(start_epoch_ - 1, saved.tensors, saved.metadata);
  restore_best();
}

std::filesystem::path TrainingLoop::numbered(std::int64_t epoch) const {
  return options_.folder / "weights" / fmt::format("epoch{}.safetensors", epoch);
}

void TrainingLoop::restore_best() {
  const auto is_ours = [&](const Metadata& about) { return about.contains(kOwnEpochKey) && run_of(about) == options_.run; };
  const auto holds_it = [&](const Metadata& about) { return is_ours(about) && epoch_of(about) == written_best_; };
  const auto [present, cause] = find_checkpoint(best());
  const bool there = !present.metadata.empty() || !present.tensors.empty();
  if (written_best_ && holds_it(present.metadata)) return;
  // Nothing to restore: what is there is an earlier run's, unless it could be resumed. Files without the keys are older.
  if (!written_best_ && !(is_ours(present.metadata) && present.metadata.contains(kTrainingStateKey))) return;
  if (options_.run.empty() && there && !present.metadata.contains(kOwnEpochKey)) return;
  if (!cause.empty()) remove_unreadable(best(), cause, observer_);
  if (written_best_) {
    const auto [kept, fault] = find_checkpoint(numbered(*written_best_));
    if (!fault.empty()) observer_.notice(fmt::format("WARNING: {}\n", fault));
    if (holds_it(kept.metadata) && kept.metadata.contains(kTrainingStateKey))
      return write_checkpoint(best(), kept.tensors, kept.metadata);
  }
  const std::string lost = written_best_ ? fmt::format("epoch {}, the best so far, is in no file", *written_best_)
                                         : std::string("no epoch was the best so far");
  std::error_code error;
  if (is_ours(present.metadata))
    observer_.notice(fmt::format("WARNING: {}: of epoch {}, {}: {}\n", best().string(), present.metadata.at(kOwnEpochKey),
                                 std::filesystem::remove(best(), error) ? "is removed" : "cannot be removed", lost));
  else
    observer_.notice(fmt::format("WARNING: {}{}\n", there ? best().string() + ": of another run, stays: " : "", lost));
  written_best_.reset();
}

}  // namespace frost
