#include "models/yolo/prune_run.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <charconv>
#include <cstdio>

#include "engine/checkpoint/packed.h"
#include "engine/report/text.h"
#include "engine/tensor/run_device.h"
#include "models/slim/filters.h"
#include "models/slim/prune.h"
#include "models/yolo/model_io.h"
#include "models/yolo/val_run.h"
#include "models/zoo/weights.h"

namespace frost::yolo {
namespace {

/// "2:4": of each 4 values 2 stay.
std::pair<int, int> parse_pattern(const std::string& text) {
  int n = 0, m = 0;
  const char *first = text.data(), *last = first + text.size();
  auto [end, trouble] = std::from_chars(first, last, n);
  FROST_CHECK(trouble == std::errc() && end != last && *end == ':', "--pattern '", text, "': expected N:M, such as 2:4");
  const auto rest = std::from_chars(end + 1, last, m);
  FROST_CHECK(rest.ec == std::errc() && rest.ptr == last && n > 0 && n < m && m <= 64, "--pattern '", text,
              "': expected N:M with 0 < N < M <= 64, such as 2:4");
  return {n, m};
}

/// The model's state in the types of the file it came from: pruning changes no value that stays, so f16 stays exact.
StateDict state_as_stored(Module& model, const StateDict& source) {
  StateDict state;
  for (auto& [name, tensor] : state_of(model)) {
    const HostTensor* old = source.find(name);
    const bool half = old && (old->dtype == DType::f16 || old->dtype == DType::bf16);
    state.add(name, half ? tensor.as(old->dtype) : tensor);
  }
  return state;
}

double megabytes(const std::filesystem::path& file) { return static_cast<double>(std::filesystem::file_size(file)) / 1e6; }

std::string mask_weights(DetectionModel& model, const PruneConfig& config) {
  if (config.method == "nm") {
    const auto [n, m] = parse_pattern(config.pattern);
    const std::vector<std::string> dense = slim::prune_n_of_m(model, n, m);
    if (!dense.empty())
      fmt::print("left dense, since their input channels are no multiple of {}: {}\n", m, fmt::join(dense, ", "));
    return fmt::format("nm {}:{}", n, m);
  }
  config.method == "global" ? slim::prune_global(model, config.amount) : slim::prune_l1(model, config.amount);
  return fmt::format("{} {}", config.method, config.amount);
}

/// Removes whole filters; prints what is left of each convolution.
std::string remove_filters(Device& device, DetectionModel& model, const PruneConfig& config) {
  const std::int64_t side = model.stride();
  const slim::ChannelGraph graph =
      slim::trace_channels(device, model, {1, side, side, model.spec().channels},
                           [&](Context& context, const Var& image) { return model.heads(context, image); });
  const auto importance = config.importance == "bn" ? slim::Importance::bn : slim::Importance::l1;
  const std::vector<bool> keep = slim::choose_channels(graph, slim::channel_importance(graph, importance), config.amount);
  std::vector<std::vector<std::int64_t>> before;
  std::int64_t parameters_before = 0, parameters = 0;
  for (const Parameter* p : model.parameters()) parameters_before += p->value.elements();
  for (const slim::ChannelGraph::Conv& c : graph.convs) before.push_back(c.conv->weight.torch_shape);
  const double all = graph.work(std::vector<bool>(keep.size(), true)), left = graph.work(keep);
  slim::remove_channels(graph, keep);
  for (const Parameter* p : model.parameters()) parameters += p->value.elements();
  fmt::print("{:<32}{:>18}{:>18}\n", "convolution", "before", "after");
  for (std::size_t i = 0; i < before.size(); ++i)
    fmt::print("{:<32}{:>18}{:>18}\n", graph.convs[i].conv->name(), shape_text(before[i]),
               shape_text(graph.convs[i].conv->weight.torch_shape));
  fmt::print("FLOPs of the convolutions {:.1f} % fewer, parameters {} -> {} ({:.1f} % fewer)\n", 100 * (1 - left / all),
             parameters_before, parameters,
             100 * (1 - static_cast<double>(parameters) / static_cast<double>(parameters_before)));
  return fmt::format("filters {} ({})", config.amount, config.importance);
}

}  // namespace

void run_prune(const PruneConfig& config) {
  const RunDevice run(config.device, "f32");
  const std::filesystem::path file = find_weights(config.weights);
  YoloCheckpoint checkpoint = load_yolo_checkpoint(file);
  const std::unique_ptr<DetectionModel> model = model_of(*run.device, checkpoint, file.string());
  fmt::print("{}{}, {}\n{}\n", bold_blue("prune: "), file.string(), run.line, model->summary(false, false));

  std::string what;
  if (config.method == "filters") {
    what = remove_filters(*run.device, *model, config);
  } else {
    what = mask_weights(*model, config);
    const slim::Sparsity result = slim::sparsity(*model);
    fmt::print("{}{}\n", slim::sparsity_table(result), slim::pruned_line(result));
  }

  checkpoint.state = state_as_stored(*model, checkpoint.state);
  if (config.dense) checkpoint.state = without_masks(checkpoint.state);
  checkpoint.metadata = {{"frost.pruned", fmt::format("{} of {}", what, file.filename().string())}};
  checkpoint.epoch = -1;
  save_yolo_checkpoint(config.save, checkpoint);
  fmt::print("{:.2f} MB -> {:.2f} MB, saved to {}{}\n", megabytes(file), megabytes(config.save), bold(config.save.string()),
             config.dense ? " (plain, without masks)" : "");
  std::fflush(stdout);

  if (config.data.empty()) return;
  for (const std::string& weights : {file.string(), config.save.string()})
    run_validation({.data = config.data,
                    .weights = weights,
                    .batch_size = config.batch_size,
                    .imgsz = config.imgsz,
                    .device = config.device,
                    .noplots = true});
}

}  // namespace frost::yolo
