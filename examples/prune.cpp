// Prunes half of a detector's weights, and trains it on: what is zero stays zero (docs/pruning.md).
//   prune WEIGHTS DATA.yaml
#include <frost/frost.h>
#include <models/slim/prune.h>

#include <cstdio>

int main(int argc, char** argv) try {
  if (argc != 3) return std::puts("usage: prune WEIGHTS DATA.yaml"), 2;
  const frost::RunDevice run("auto", "auto");
  const auto model = frost::load_model(*run.device, argv[1]);
  frost::slim::prune_global(*model, 0.5);
  std::printf("%s\n", frost::slim::sparsity_line(frost::slim::sparsity(*model)).c_str());
  model->save("pruned.safetensors");

  frost::yolo::TrainConfig config;
  config.weights = "pruned.safetensors", config.data = argv[2];
  config.epochs = 1, config.batch_size = 8, config.imgsz = 96, config.workers = 2;
  config.noplots = true, config.project = "runs", config.name = "prune";
  const std::filesystem::path folder = frost::yolo::train(config);

  const auto tuned = frost::load_model(*run.device, (folder / "weights/best.safetensors").string());
  const frost::slim::Sparsity after = frost::slim::sparsity(*tuned);
  std::printf("%s\n", frost::slim::sparsity_line(after).c_str());
  return 2 * after.weight_zeros >= after.weights - 1 ? 0 : 1;
} catch (const frost::Error& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
