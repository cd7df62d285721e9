#include "models/classify/validator.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>

#include "engine/base/atomic_file.h"
#include "engine/base/interrupt.h"
#include "engine/image/codec.h"
#include "engine/image/draw.h"
#include "models/classify/step.h"

namespace frost::classify {
namespace {

using Clock = std::chrono::steady_clock;
double ms_between(Clock::time_point a, Clock::time_point b) {
  return std::chrono::duration<double, std::milli>(b - a).count();
}
double share(std::int64_t part, std::int64_t whole) {
  return whole > 0 ? static_cast<double>(part) / static_cast<double>(whole) : 0.0;
}

std::string cut(const std::string& name, std::size_t most) { return name.size() <= most ? name : name.substr(0, most); }

}  // namespace

ClassAccuracy Accuracy::all() const {
  ClassAccuracy sum;
  for (const ClassAccuracy& c : classes) sum.images += c.images, sum.top1 += c.top1, sum.top5 += c.top5;
  return sum;
}
double Accuracy::top1() const { return share(all().top1, all().images); }
double Accuracy::top5() const { return share(all().top5, all().images); }

Normaliser::Normaliser(Device& device, const Preprocessing& preprocessing) {
  const auto constant = [&](const std::vector<float>& values) {
    return Tensor::from(device, {1, 1, 1, 3}, values, Role::input);
  };
  std::vector<float> rstd;
  for (const float d : preprocessing.stddev) rstd.push_back(1.0f / d);
  mean_ = constant({preprocessing.mean.begin(), preprocessing.mean.end()});
  rstd_ = constant(rstd), ones_ = constant({1, 1, 1}), zeros_ = constant({0, 0, 0});
}

void Normaliser::operator()(const Tensor& pixels, const Tensor& input) const {
  Backend& backend = pixels.backend();
  backend.normalize_image({.x = pixels, .y = input});
  // A norm with the data set's constants.
  backend.norm_act_forward({.x = input,
                            .weight = ones_.f32(),
                            .bias = zeros_.f32(),
                            .mean = mean_.f32(),
                            .rstd = rstd_.f32(),
                            .activation = {},
                            .residual = {},
                            .y = input});
}

Tensor Normaliser::operator()(const Tensor& pixels, DType compute) const {
  const Tensor input(pixels.device(), pixels.shape(), compute, Role::input);
  (*this)(pixels, input);
  return input;
}

Tensor network_input(Device& device, const std::vector<std::uint8_t>& rgb, const Shape& shape, const Normaliser& normalise,
                     DType compute) {
  const Tensor pixels(device, shape, DType::u8, Role::input);
  device.backend().upload(pixels.data(), rgb.data(), static_cast<std::size_t>(shape.elements()));
  return normalise(pixels, compute);
}

run::Inference inference(Device& device, Classifier& model, DType compute, bool capture) {
  return {device,
          model,
          compute,
          capture,
          [normalise = Normaliser(device, model.preprocessing())](const Tensor& pixels, const Tensor& input) {
            normalise(pixels, input);
          },
          [&model](Context& context, const Var& image) { return std::vector<Var>{model.forward(context, image)}; }};
}

std::vector<float> softmax(Device& device, const Tensor& logits) {
  const Tensor probabilities(device, logits.shape());
  device.backend().softmax_forward({.x = logits, .y = probabilities});
  return probabilities.to_vector();
}

std::vector<int> top_classes(const float* values, int classes, int most) {
  std::vector<int> order(static_cast<std::size_t>(classes));
  std::iota(order.begin(), order.end(), 0);
  const auto last = order.begin() + std::min(most, classes);
  std::partial_sort(order.begin(), last, order.end(),
                    [&](int a, int b) { return values[a] != values[b] ? values[a] > values[b] : a < b; });
  order.erase(last, order.end());
  return order;
}

Accuracy validate(Device& device, Classifier& model, ImageLoader& loader, const ValidateOptions& options) {
  const int classes = model.classes();
  Accuracy result;
  result.classes.resize(static_cast<std::size_t>(classes));
  result.confusion.resize(static_cast<std::size_t>(classes) * static_cast<std::size_t>(classes));
  run::Inference network = inference(device, model, options.compute, options.cuda_graph);
  std::int64_t number = 0;
  Progress bar(options.observer, options.label, loader.batches());
  loader.start(0);
  while (const ImageBatch* batch = loader.next()) {
    if (InterruptGuard::requested()) throw Interrupted("interrupted during validation");
    if (batch->n == 0) {  // none of its pictures could be decoded
      bar.advance();
      continue;
    }
    const auto t0 = Clock::now();
    network.load({batch->n, batch->side, batch->side, 3}, batch->pixels);
    const auto t1 = Clock::now();
    const Tensor logits = network.run().front().value;
    device.backend().synchronize();
    const auto t2 = Clock::now();
    result.loss += cross_entropy(device, logits, batch->labels, options.label_smoothing);
    const std::vector<float> values = logits.to_vector();
    for (std::size_t i = 0; i < batch->labels.size(); ++i) {
      const auto label = static_cast<std::size_t>(batch->labels[i]);
      const std::vector<int> top = top_classes(&values[i * static_cast<std::size_t>(classes)], classes);
      ClassAccuracy& own = result.classes.at(label);
      ++own.images;
      own.top1 += top[0] == batch->labels[i];
      own.top5 += std::find(top.begin(), top.end(), batch->labels[i]) != top.end();
      ++result.confusion[label * static_cast<std::size_t>(classes) + static_cast<std::size_t>(top[0])];
    }
    const auto t3 = Clock::now();
    result.pre_ms += ms_between(t0, t1), result.inference_ms += ms_between(t1, t2), result.post_ms += ms_between(t2, t3);
    if (options.batch_done) options.batch_done(number, *batch, softmax(device, logits));
    ++number;
    bar.advance();
  }
  bar.finish();
  const double images = static_cast<double>(std::max<std::int64_t>(1, result.all().images));
  result.loss /= static_cast<double>(std::max<std::int64_t>(1, number));
  result.pre_ms /= images, result.inference_ms /= images, result.post_ms /= images;
  return result;
}

std::string accuracy_table(const Accuracy& accuracy, const std::vector<std::string>& names) {
  std::string text = fmt::format("{:>24}{:>12}{:>12}{:>12}\n", "Class", "Images", "top1_acc", "top5_acc");
  const auto row = [&](const std::string& name, const ClassAccuracy& a) {
    text += fmt::format("{:>24}{:>12}{:>12.3g}{:>12.3g}\n", cut(name, 23), a.images, share(a.top1, a.images),
                        share(a.top5, a.images));
  };
  row("all", accuracy.all());
  for (std::size_t c = 0; c < accuracy.classes.size(); ++c) row(names[c], accuracy.classes[c]);
  return text;
}

std::string confusion_table(const Accuracy& accuracy, const std::vector<std::string>& names) {
  const std::size_t classes = accuracy.classes.size();
  std::string text = fmt::format("{:>24}", "true \\ predicted");
  for (std::size_t c = 0; c < classes; ++c) text += fmt::format("{:>12}", cut(names[c], 11));
  text += "\n";
  for (std::size_t t = 0; t < classes; ++t) {
    text += fmt::format("{:>24}", cut(names[t], 23));
    for (std::size_t p = 0; p < classes; ++p) text += fmt::format("{:>12}", accuracy.confusion[t * classes + p]);
    text += "\n";
  }
  return text;
}

void write_confusion(const std::filesystem::path& file, const Accuracy& accuracy, const std::vector<std::string>& names) {
  const auto cell = [](std::string name) {  // a name with a comma or a quote is quoted
    if (name.find_first_of(",\"\n") == std::string::npos) return name;
    for (std::size_t at = 0; (at = name.find('"', at)) != std::string::npos; at += 2) name.insert(at, 1, '"');
    return "\"" + name + "\"";
  };
  const std::size_t classes = accuracy.classes.size();
  std::string text = "true";
  for (const std::string& name : names) text += "," + cell(name);
  text += "\n";
  for (std::size_t t = 0; t < classes; ++t) {
    text += cell(names[t]);
    for (std::size_t p = 0; p < classes; ++p) text += fmt::format(",{}", accuracy.confusion[t * classes + p]);
    text += "\n";
  }
  write_file_atomically(file, std::as_bytes(std::span(text)));
}

std::string speed_line(const Accuracy& a, int imgsz) {
  return fmt::format(
      "Speed: {:.1f}ms pre-process, {:.1f}ms inference, {:.1f}ms post-process per image at shape (1, 3, {}, {})", a.pre_ms,
      a.inference_ms, a.post_ms, imgsz, imgsz);
}

Image draw_image_grid(const ImageBatch& batch, const std::vector<std::string>& names, const std::vector<float>& predicted) {
  constexpr std::int64_t kMost = 16;
  constexpr Colour kBlack{}, kGood{0, 110, 0}, kBad{190, 0, 0};
  const std::int64_t count = std::min(batch.n, kMost);
  const int columns = static_cast<int>(std::ceil(std::sqrt(static_cast<double>(count))));
  const int rows = static_cast<int>((count + columns - 1) / columns);
  const int scale = batch.side >= 192 ? 2 : 1, line = text_height(scale) + 4 * scale;
  const int side = static_cast<int>(batch.side), cell_h = side + line * (predicted.empty() ? 1 : 2) + 4, cell_w = side + 4;
  Image grid(rows * cell_h, columns * cell_w, 255);
  const int letters = side / std::max(1, text_width("M", scale) + scale);
  for (std::int64_t i = 0; i < count; ++i) {
    const int x = static_cast<int>(i) % columns * cell_w + 2, y = static_cast<int>(i) / columns * cell_h + 2;
    paste(grid, batch.image(i), x, y);
    const auto label = static_cast<std::size_t>(batch.labels[static_cast<std::size_t>(i)]);
    const auto write = [&](int at, const std::string& text, Colour colour) {
      draw_text(grid, x, y + side + at * line + 2 * scale, cut(text, static_cast<std::size_t>(std::max(letters, 1))), colour,
                scale);
    };
    write(0, names[label], kBlack);
    if (predicted.empty()) continue;
    const float* values = &predicted[static_cast<std::size_t>(i) * names.size()];
    const auto best = static_cast<std::size_t>(std::max_element(values, values + names.size()) - values);
    write(1, fmt::format("{} {:.2f}", names[best], values[best]), best == label ? kGood : kBad);
  }
  return grid;
}

BatchDone first_image_grid(const std::filesystem::path& folder, const std::vector<std::string>& names) {
  return [folder, names](std::int64_t number, const ImageBatch& batch, const std::vector<float>& predicted) {
    if (number == 0) write_jpeg(folder / "test_images.jpg", draw_image_grid(batch, names, predicted));
  };
}

}  // namespace frost::classify
