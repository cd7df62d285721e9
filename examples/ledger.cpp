// What freezing saves, read from the ledger: a training step of ResNet-18, all of it and its last layer alone.
#include <frost/frost.h>
#include <models/classify/step.h>

#include <cstdio>

using namespace frost;

int main() try {
  std::int64_t saved[2];
  for (const bool frozen : {false, true}) {
    Device device("auto");
    const auto model = make_model(device, "resnet18", 10);
    if (frozen) model->freeze({"!fc"});
    ParameterArena arena(device, *model, /*weight_decay=*/0, /*with_ema=*/false);
    Optimizer optimizer(arena, device, OptimizerKind::sgd);

    device.ledger().reset_peaks();
    const Tensor images = Tensor::zeros(device, {4, 64, 64, 3}, DType::f32, Role::input);
    classify::train_step({.device = device}, dynamic_cast<classify::Classifier&>(*model), images, {0, 1, 2, 3}, 0);
    optimizer.step(/*momentum=*/0.9f);

    std::printf("%s:\n%s\n", frozen ? "the last layer" : "everything", device.ledger().table().c_str());
    saved[frozen] = device.ledger().of(Role::saved_activation).peak;
    // Of one module: device.ledger().of(Role::saved_activation, "layer1.0.conv1")
  }
  return saved[1] < saved[0] ? 0 : 1;
} catch (const Error& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
