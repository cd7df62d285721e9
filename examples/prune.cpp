// Prunes half of a detector's weights, and trains it on: what is zero stays zero (docs/pruning.md).
//   prune WEIGHTS DATA.yaml
#include <frost/frost.h>
#include <models/slim/prune.h>

#include <cstdio>

int main(int argc, char** argv) try {
  if (argc != 3) return std::puts("usage: prune WEIGHTS DATA.yaml"), 2;
  frost::Device device("auto");
  const auto model = frost::load_model(device, argv[1]);
  frost::slim::prune_global(*model, 0.5);
  std::printf("%s\n", frost::slim::sparsity_line(frost::slim::sparsity(*model)).c_str());

  frost::train(*model, frost::DetectionData(argv[2]),
               {.epochs = 1, .batch_size = 8, .imgsz = 96, .workers = 2, .project = "runs", .name = "prune"});
  const frost::slim::Sparsity after = frost::slim::sparsity(*model);
  std::printf("%s\n", frost::slim::sparsity_line(after).c_str());
  model->save("pruned.safetensors");
  return 2 * after.weight_zeros >= after.weights - 1 ? 0 : 1;
} catch (const frost::Error& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
