// Fine-tunes a detector with a frozen backbone.
//   fine_tune [WEIGHTS.pt [DATA.yaml]]      without them: a fresh YOLOv5n learns shapes that are drawn
#include <frost/frost.h>
#include <models/yolo/shapes_dataset.h>

#include <cstdio>

int main(int argc, char** argv) try {
  frost::Device device("auto");
  if (argc < 3) frost::write_shapes_dataset("shapes", {.imgsz = 96}, /*train=*/16, /*val=*/8);
  const frost::DetectionData data(argc < 3 ? "shapes/shapes.yaml" : argv[2]);

  const auto model = argc < 2 ? frost::make_model(device, "yolov5n", static_cast<int>(data.names.size()))
                              : frost::load_model(device, argv[1]);
  model->freeze({"backbone"});  // layers 0 to 9 get no gradients; see docs/freezing.md
  const frost::TrainResult run = frost::train(
      *model, data, {.epochs = 2, .batch_size = 8, .imgsz = 96, .workers = 2, .project = "runs", .name = "fine_tune"});

  std::printf("mAP50 %.3f, peak memory %.1f MB, run in %s\n", run.summary.metric("metrics/mAP_0.5"),
              static_cast<double>(run.summary.peak_total) / 1e6, run.folder.c_str());
  model->save("tuned.safetensors");
} catch (const frost::Error& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
