// Fine-tunes a detector with a frozen backbone.
//   fine_tune [WEIGHTS.pt DATA.yaml]      without them: a fresh YOLOv5n learns shapes that are drawn
#include <engine/report/run_summary.h>
#include <frost/frost.h>
#include <models/yolo/shapes_dataset.h>

#include <cstdio>

int main(int argc, char** argv) try {
  frost::yolo::TrainConfig config;
  if (argc == 3) {
    config.weights = argv[1], config.data = argv[2];
    config.epochs = 30, config.imgsz = 320;
  } else {
    frost::write_shapes_dataset("shapes", {.imgsz = 96}, /*train=*/16, /*val=*/8);
    config.weights = "", config.cfg = "yolov5n.yaml", config.data = "shapes/shapes.yaml";
    config.epochs = 2, config.batch_size = 8, config.imgsz = 96, config.workers = 2;
  }
  config.freeze = {"backbone"};  // layers 0 to 9 get no gradients (docs/freezing.md)
  config.noplots = true, config.project = "runs", config.name = "fine_tune";
  const std::filesystem::path folder = frost::yolo::train(config);

  const frost::RunSummary summary = frost::read_run_summary(folder);
  std::printf("mAP50 %.3f, peak memory %.1f MB\n", summary.metric("metrics/mAP_0.5"),
              static_cast<double>(summary.peak_total) / 1e6);
  std::filesystem::copy_file(folder / "weights/best.safetensors", "tuned.safetensors",
                             std::filesystem::copy_options::overwrite_existing);
} catch (const frost::Error& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
