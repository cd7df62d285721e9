#pragma once
#include <functional>
#include <string>
#include <vector>

#include "engine/report/observer.h"
#include "models/classify/classifier.h"
#include "models/classify/dataset.h"
#include "models/run/inference.h"

namespace frost::classify {

struct ClassAccuracy {
  std::int64_t images = 0, top1 = 0, top5 = 0;
};

/// What a validation finds.
struct Accuracy {
  std::vector<ClassAccuracy> classes;
  std::vector<std::int64_t> confusion;               // (true class, predicted class)
  double loss = 0;                                   // mean over batches
  double pre_ms = 0, inference_ms = 0, post_ms = 0;  // for an image
  ClassAccuracy all() const;
  double top1() const;  // shares of all images
  double top5() const;
};

/// Called for each batch, with its number, the batch, and for each image the softmax over classes.
using BatchDone = std::function<void(std::int64_t, const ImageBatch&, const std::vector<float>&)>;

struct ValidateOptions {
  DType compute = DType::f32;
  bool cuda_graph = true;  // capture the network where the device can
  float label_smoothing = 0;
  std::string label;  // before the progress bar
  Observer& observer = silence();
  BatchDone batch_done;
};
Accuracy validate(Device& device, Classifier& model, ImageLoader& loader, const ValidateOptions& options);

/// The classifier in evaluation: pixels as in the data set in, logits out. The caller owns the model.
run::Inference inference(Device&, Classifier& model, DType compute, bool capture);

/// Of logits (n, 1, 1, classes): (n, classes).
std::vector<float> softmax(Device& device, const Tensor& logits);

/// The classes of the largest values, best first, at most five.
std::vector<int> top_classes(const float* values, int classes, int most = 5);

/// `Class Images top1_acc top5_acc`: all, and a row for each class.
std::string accuracy_table(const Accuracy& accuracy, const std::vector<std::string>& names);
/// True classes down, predictions across; names are numbered where they do not fit.
std::string confusion_table(const Accuracy& accuracy, const std::vector<std::string>& names);
/// The same as a file: predicted names in the first line, then a line for each true class.
void write_confusion(const std::filesystem::path& file, const Accuracy& accuracy, const std::vector<std::string>& names);
/// "Speed: 0.1ms pre-process, ..."
std::string speed_line(const Accuracy& accuracy, int imgsz);

/// Converts pixels to the network's input: (x / 255 - mean) / std. Its constants stay on the device for captured steps.
class Normaliser {
 public:
  Normaliser(Device&, const Preprocessing&);
  /// u8 pixels on the device become `input`, of the same shape.
  void operator()(const Tensor& pixels, const Tensor& input) const;
  /// The same as a new input of type `compute`.
  Tensor operator()(const Tensor& pixels, DType compute) const;

 private:
  Tensor mean_, rstd_, ones_, zeros_;
};

/// The same for pixels of the host.
Tensor network_input(Device& device, const std::vector<std::uint8_t>& rgb, const Shape& shape, const Normaliser& normalise,
                     DType compute);

/// An image grid of a batch's first pictures with their classes; with `predicted` (n, classes), also what the network says.
Image draw_image_grid(const ImageBatch& batch, const std::vector<std::string>& names,
                      const std::vector<float>& predicted = {});
/// A validation's first batch as such a grid, `folder`/test_images.jpg.
BatchDone first_image_grid(const std::filesystem::path& folder, const std::vector<std::string>& names);

}  // namespace frost::classify
