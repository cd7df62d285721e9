// Fine-tunes a detector with a frozen backbone.
//   fine_tune [WEIGHTS.pt [DATA.yaml]]      without them: a fresh YOLOv5n learns shapes that are drawn
#include <frost/frost.h>
#include <models/yolo/shapes_dataset.h>

#include <cstdio>
#include <vector>

// A run writes nothing to the terminal; it reports to an observer.
struct Losses : frost::Observer {
  std::vector<double> of_epoch;
  void epoch_done(const frost::EpochResult& epoch) override {
    double sum = 0;
    for (std::size_t i = 0; i < epoch.columns.size(); ++i)
      if (epoch.columns[i].starts_with("val/")) sum += epoch.values[i];  // box, objectness, class
    std::printf("epoch %d  validation loss %.4f\n", static_cast<int>(epoch.epoch), sum);
    of_epoch.push_back(sum);
  }
};

int main(int argc, char** argv) try {
  frost::Device device("auto");
  if (argc < 3) frost::write_shapes_dataset("shapes", {.imgsz = 96}, /*train=*/16, /*val=*/8);
  const frost::DetectionData data(argc < 3 ? "shapes/shapes.yaml" : argv[2]);

  const auto model = argc < 2 ? frost::make_model(device, "yolov5n", static_cast<int>(data.names.size()))
                              : frost::load_model(device, argv[1]);
  model->freeze({"backbone"});  // layers 0 to 9 get no gradients; see docs/freezing.md
  Losses losses;
  const frost::TrainResult run = frost::train(
      *model, data, {.epochs = 4, .batch_size = 8, .imgsz = 96, .workers = 2, .project = "runs", .name = "fine_tune"},
      losses);

  std::printf("mAP50 %.3f, peak memory %.1f MB, run in %s\n", run.summary.metric("metrics/mAP_0.5"),
              static_cast<double>(run.summary.peak_total) / 1e6, run.folder.c_str());
  model->save("tuned.safetensors");
  return losses.of_epoch.back() < losses.of_epoch.front() ? 0 : 1;
} catch (const frost::Error& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
