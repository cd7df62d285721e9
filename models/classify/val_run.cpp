#include "models/classify/val_run.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>

#include "engine/base/folder_files.h"
#include "engine/base/interrupt.h"
#include "engine/data/epoch_order.h"
#include "engine/image/codec.h"
#include "engine/image/color.h"
#include "engine/image/draw.h"
#include "engine/report/run_folder.h"
#include "engine/report/text.h"
#include "engine/tensor/run_device.h"
#include "models/classify/validator.h"
#include "models/classify/weights.h"
#include "models/slim/prune.h"
#include "models/zoo/weights.h"

namespace frost::classify {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
double ms_since(Clock::time_point start) { return std::chrono::duration<double, std::milli>(Clock::now() - start).count(); }

/// The model must have as many classes as the data. Other names, where the file says names at all, are a warning.
void check_classes(const Classifier& model, const ImageFolder& data, const std::string& weights) {
  FROST_CHECK(model.classes() == static_cast<int>(data.classes.size()), weights, ": ", model.classes(), " classes, ",
              data.folder.string(), " has ", data.classes.size());
  const bool unnamed = model.names[0] == "0";
  const auto [ours, theirs] = std::mismatch(data.classes.begin(), data.classes.end(), model.names.begin());
  if (!unnamed && ours != data.classes.end())
    fmt::print("WARNING: {}: class {} is '{}', in {} it is '{}'\n", weights, ours - data.classes.begin(), *theirs,
               data.folder.string(), *ours);
}

std::vector<fs::path> pictures_of(const std::string& source) {
  FROST_CHECK(fs::exists(source), source, ": not found; --source is a picture or a folder of pictures");
  if (!fs::is_directory(source)) return {source};
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(source))
    if (!entry.is_directory() && is_picture(entry.path()) && !is_clutter(entry.path().filename().string()))
      files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  FROST_CHECK(!files.empty(), source, ": no pictures in it");
  return files;
}

}  // namespace

fs::path run_validation(const ValConfig& config) {
  FROST_CHECK(!config.data.empty() && !config.weights.empty(), "--weights and --data are needed");
  const RunDevice run(config.device, config.half ? "half" : config.precision, {config.deterministic, config.tf32});
  Device& device = *run.device;
  fmt::print(
      "{}data={}, weights={}, batch_size={}, imgsz={}, device={}, workers={}, verbose={}, project={}, name={}\n{}\n\n",
      bold_blue("classify/val: "), config.data, config.weights, config.batch_size, config.imgsz, config.device,
      config.workers, config.verbose, config.project.string(), config.name, run.line);
  const std::unique_ptr<Classifier> model = load_classifier(device, find_weights(config.weights));
  const int imgsz = Classifier::whole_strides(config.imgsz);
  fmt::print("{}\n", model->summary(imgsz));
  if (const std::string line = slim::sparsity_line(slim::sparsity(*model)); !line.empty()) fmt::print("{}\n", line);
  const DataSplits data = find_val_split(config.data, model->names);
  report_scan(data.val, config.strict);
  check_classes(*model, data.val, config.weights);
  model->names = data.val.classes;

  const auto faults = std::make_shared<PictureFaults>(data.val.size());
  const auto loader =
      make_image_loader(std::make_shared<ImageFolder>(data.val), {.side = imgsz,
                                                                  .batch_size = config.batch_size,
                                                                  .square = model->preprocessing().framing == Preprocessing::Framing::square,
                                                                  .threads = worker_count(config.workers, config.batch_size),
                                                                  .faults = faults});
  const fs::path folder = make_run_folder(config.project, config.name, config.exist_ok);
  ValidateOptions options{.compute = run.compute,
                          .cuda_graph = config.cuda_graph,
                          .label = data.val_name == "test" ? "testing" : "validating",
                          .batch_done = {}};
  if (!config.noplots) options.batch_done = first_sheet(folder, model->names);
  const InterruptGuard guard;
  const Accuracy accuracy = validate(device, *model, *loader, options);
  for (const std::string& fault : faults->take()) {
    if (config.strict) fail(fault);
    fmt::print("WARNING ⚠️ {}\n", fault);
  }
  FROST_CHECK(accuracy.all().images > 0, data.val.folder.string(), ": none of ", data.val.size(),
              " pictures can be decoded; the first: ", faults->first_cause());
  if (config.verbose) {
    fmt::print("{}", accuracy_table(accuracy, model->names));
    if (model->classes() <= 10) fmt::print("\n{}", confusion_table(accuracy, model->names));
    fmt::print("{}\n", speed_line(accuracy, imgsz));
  }
  write_confusion(folder / "confusion_matrix.csv", accuracy, model->names);
  fmt::print("Results saved to {}\n", bold(folder.string()));
  std::fflush(stdout);
  return folder;
}

fs::path run_prediction(const PredictConfig& config) {
  FROST_CHECK(!config.weights.empty(), "--weights is needed: a file that classify-train wrote, or a .pth");
  const RunDevice run(config.device, config.half ? "half" : config.precision, {config.deterministic, config.tf32});
  Device& device = *run.device;
  fmt::print("{}weights={}, source={}, imgsz={}, save_txt={}, nosave={}, project={}, name={}\n{}\n\n",
             bold_blue("classify/predict: "), config.weights, config.source, config.imgsz, config.save_txt, config.nosave,
             config.project.string(), config.name, run.line);
  const std::unique_ptr<Classifier> model = load_classifier(device, find_weights(config.weights));
  const int imgsz = Classifier::whole_strides(config.imgsz);
  const std::vector<fs::path> files = pictures_of(config.source);
  const fs::path folder = make_run_folder(config.project, config.name, config.exist_ok);
  if (config.save_txt) make_folders(folder / "labels");

  run::Inference network = inference(device, *model, run.compute, config.cuda_graph);
  const InterruptGuard guard;
  std::array<double, 3> total{};  // ms: before, in and after the network
  std::size_t seen = 0;           // pictures that can be decoded
  for (std::size_t i = 0; i < files.size(); ++i) {
    if (InterruptGuard::requested()) throw Interrupted("interrupted during prediction");
    auto start = Clock::now();
    Image image;
    try {
      image = read_picture(files[i]);
    } catch (const Error& e) {
      if (files.size() == 1) throw;
      fmt::print("WARNING ⚠️ {}: left out\n", e.what());
      continue;
    }
    ++seen;
    const Image view = centre_view(image, imgsz, model->preprocessing().framing == Preprocessing::Framing::square);
    std::vector<std::uint8_t> rgb(view.pixels.size());
    pack_rgb(view, rgb.data());
    network.load({1, imgsz, imgsz, 3}, rgb);
    total[0] += ms_since(start);
    start = Clock::now();
    const Tensor logits = network.run().front().value;
    device.backend().synchronize();
    const double network_ms = ms_since(start);
    total[1] += network_ms;
    start = Clock::now();
    const std::vector<float> values = softmax(device, logits);
    std::vector<std::string> said;
    std::string lines;
    for (const int c : top_classes(values.data(), model->classes())) {
      const auto at = static_cast<std::size_t>(c);
      said.push_back(fmt::format("{} {:.2f}", model->names[at], values[at]));
      lines += fmt::format("{:.2f} {}\n", values[at], model->names[at]);
    }
    if (config.save_txt) {
      const fs::path labels = folder / "labels" / (files[i].stem().string() + ".txt");
      if (fs::exists(labels))
        fmt::print("WARNING: {} is there already: {} adds its lines\n", labels.string(), files[i].string());
      std::ofstream(labels, std::ios::app) << lines;
    }
    if (!config.nosave) {
      const int scale = std::max(1, std::min(image.height, image.width) / 240), step = text_height(scale) + 3 * scale;
      for (int row = 0, from = 0; row < static_cast<int>(said.size()); ++row) {
        const auto end = static_cast<int>(lines.find('\n', static_cast<std::size_t>(from)));
        const std::string text = lines.substr(static_cast<std::size_t>(from), static_cast<std::size_t>(end - from));
        for (const auto& [shift, colour] :
             {std::pair{scale, Colour{}}, {0, Colour{255, 255, 255}}})  // a shadow, for bright grounds
          draw_text(image, 8 * scale + shift, 8 * scale + row * step + shift, text, colour, scale);
        from = end + 1;
      }
      write_image(folder / files[i].filename(), image);
    }
    total[2] += ms_since(start);
    fmt::print("image {}/{} {}: {}x{} {}, {:.1f}ms\n", i + 1, files.size(), files[i].string(), imgsz, imgsz,
               fmt::join(said, ", "), network_ms);
  }
  FROST_CHECK(seen > 0, config.source, ": none of ", files.size(), " pictures can be decoded");
  const double count = static_cast<double>(seen);
  fmt::print("Speed: {:.1f}ms pre-process, {:.1f}ms inference, {:.1f}ms post-process per image at shape (1, 3, {}, {})\n",
             total[0] / count, total[1] / count, total[2] / count, imgsz, imgsz);
  if (!config.nosave || config.save_txt) fmt::print("Results saved to {}\n", bold(folder.string()));
  if (config.save_txt) fmt::print("{} labels saved to {}\n", seen, (folder / "labels").string());
  std::fflush(stdout);
  return folder;
}

}  // namespace frost::classify
