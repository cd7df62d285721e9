#include "models/slim/prune_command.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <charconv>

#include "engine/checkpoint/module_state.h"
#include "engine/checkpoint/sparse_checkpoint.h"
#include "engine/report/text.h"
#include "engine/training/run_checkpoints.h"
#include "models/slim/filters.h"
#include "models/slim/prune.h"

namespace frost::slim {
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

std::string mask_weights(Module& model, const PruneConfig& config, Observer& observer) {
  if (config.method == "nm") {
    const auto [n, m] = parse_pattern(config.pattern);
    const std::vector<std::string> dense = prune_n_of_m(model, n, m);
    if (!dense.empty())
      observer.notice(
          fmt::format("left dense, since their input channels are no multiple of {}: {}\n", m, fmt::join(dense, ", ")));
    return fmt::format("nm {}:{}", n, m);
  }
  config.method == "global" ? prune_global(model, config.amount) : prune_l1(model, config.amount);
  return fmt::format("{} {}", config.method, config.amount);
}

/// Removes whole filters; prints what is left of each convolution.
std::string remove_filters(Device& device, Model& model, const PruneConfig& config, Observer& observer) {
  const Shape image{1, model.smallest_imgsz(), model.smallest_imgsz(), model.channels()};
  const ChannelGraph graph =
      trace_channels(device, model, image, [&](Context& context, const Var& x) { return model.outputs(context, x); });
  const auto importance = config.importance == "bn" ? Importance::bn : Importance::l1;
  const std::vector<bool> keep =
      choose_channels(graph, channel_importance(graph, importance), config.amount, config.multiple);
  std::vector<std::vector<std::int64_t>> before;
  std::int64_t parameters_before = 0, parameters = 0;
  for (const Parameter* p : model.parameters()) parameters_before += p->value.elements();
  for (const ChannelGraph::Conv& c : graph.convs) before.push_back(c.conv->weight.torch_shape);
  const double all = graph.work(std::vector<bool>(keep.size(), true)), left = graph.work(keep);
  remove_channels(graph, keep);
  for (const Parameter* p : model.parameters()) parameters += p->value.elements();
  observer.notice(fmt::format("{:<32}{:>18}{:>18}\n", "convolution", "before", "after"));
  for (std::size_t i = 0; i < before.size(); ++i)
    observer.notice(fmt::format("{:<32}{:>18}{:>18}\n", graph.convs[i].conv->name(), shape_text(before[i]),
                                shape_text(graph.convs[i].conv->weight.torch_shape)));
  observer.notice(fmt::format("FLOPs of the convolutions {:.1f} % fewer, parameters {} -> {} ({:.1f} % fewer)\n",
                              100 * (1 - left / all), parameters_before, parameters,
                              100 * (1 - static_cast<double>(parameters) / static_cast<double>(parameters_before))));
  return fmt::format("filters {} ({})", config.amount, config.importance);
}

}  // namespace

void prune(const PruneConfig& config, const RunDevice& run, StoredModel& stored, Observer& observer) {
  const std::filesystem::path& file = stored.file;
  std::error_code none_yet;
  FROST_CHECK(!std::filesystem::equivalent(file, config.save, none_yet), file.string(), ": --save names the file to prune");
  Model& model = *stored.model;
  observer.notice(fmt::format("{}{}, {}\n{}\n", bold_blue("prune: "), file.string(), run.line, model.summary(224)));
  std::string what;
  if (config.method == "filters") {
    try {
      what = remove_filters(*run.device, model, config, observer);
    } catch (const Error& error) {
      fail(file.string(), ": ", error.what());
    }
  } else {
    what = mask_weights(model, config, observer);
    const Sparsity result = sparsity(model);
    observer.notice(fmt::format("{}{}\n", sparsity_table(result), pruned_line(result)));
  }

  const StateDict state = state_as_stored(model, stored.state);
  Metadata about = stored.metadata;
  end_training(about);   // the file may be one that --resume would continue from
  about.erase(kRunKey);  // and must not be taken for that run's `best`
  std::string& pruned = about["frost.pruned"];
  pruned = fmt::format("{} of {}{}", what, file.filename().string(), pruned.empty() ? "" : " (" + pruned + ")");
  for (const auto& [key, text] : model.metadata()) about[key] = text;
  write_checkpoint(config.save, config.dense ? without_masks(state) : state, about);
  observer.notice(fmt::format("{:.2f} MB -> {:.2f} MB, saved to {}{}\n", megabytes(file), megabytes(config.save),
                              bold(config.save.string()), config.dense ? " (plain, without masks)" : ""));
}

}  // namespace frost::slim
