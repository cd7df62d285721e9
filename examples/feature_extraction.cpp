// Transfer learning with ResNet-18 as a fixed feature extractor: the well-known program, line by line. The lines of PyTorch
// stand above those of frost.
//   feature_extraction [resnet18.pth]      without it the features are random, and the new layer still learns something
#include <frost/frost.h>
#include <models/classify/step.h>
#include <models/yolo/shapes_dataset.h>

#include <cstdio>

using namespace frost;

constexpr int kSide = 64, kBatch = 8;

// One batch of pictures that show a circle (class 0) or a star (class 3), normalised as for ImageNet's weights.
Tensor batch_of(Device& device, const Preprocessing& p, std::uint64_t number, std::vector<std::int64_t>& labels) {
  std::vector<float> values;
  labels.clear();
  for (std::uint64_t i = 0; i < kBatch; ++i) {
    const bool star = i % 2;
    const Image image =
        draw_shapes({.imgsz = kSide, .shapes = {star ? 3 : 0}}, ShapesSplit::train, number * kBatch + i).image;
    for (std::size_t pixel = 0; pixel < image.pixels.size(); pixel += 3)
      for (std::size_t c = 0; c < 3; ++c)  // B G R to R G B
        values.push_back((static_cast<float>(image.pixels[pixel + 2 - c]) / 255 - p.mean[c]) / p.stddev[c]);
    labels.push_back(star);
  }
  return Tensor::from(device, {kBatch, kSide, kSide, 3}, values, Role::input);
}

int main(int argc, char** argv) try {
  // device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
  Device device("auto");

  // model_conv = torchvision.models.resnet18(weights='IMAGENET1K_V1')
  const auto loaded = argc > 1 ? load_model(device, argv[1]) : make_model(device, "resnet18", 1000);
  auto& model = dynamic_cast<classify::Classifier&>(*loaded);

  // num_ftrs = model_conv.fc.in_features
  // model_conv.fc = nn.Linear(num_ftrs, 2)
  model.set_classes({"circle", "star"});

  // for param in model_conv.parameters(): param.requires_grad = False         (all but the new layer)
  model.freeze({"!fc"});

  // optimizer_conv = optim.SGD(model_conv.fc.parameters(), lr=0.001, momentum=0.9)
  ParameterArena arena(device, model, /*weight_decay=*/0, /*with_ema=*/false);
  Optimizer optimizer(arena, device, OptimizerKind::sgd);

  // for epoch in range(num_epochs):
  std::vector<std::int64_t> labels;
  float first = 0, last = 0;
  for (int epoch = 0; epoch < 6; ++epoch) {
    // exp_lr_scheduler = lr_scheduler.StepLR(optimizer_conv, step_size=7, gamma=0.1)
    for (ParameterGroup& group : arena.groups()) group.lr = epoch < 7 ? 0.001f : 0.0001f;

    // for inputs, labels in dataloaders['train']:
    last = 0;
    for (std::uint64_t batch = 0; batch < 4; ++batch) {
      const Tensor inputs = batch_of(device, model.preprocessing(), batch, labels);
      // outputs = model(inputs); loss = criterion(outputs, labels); loss.backward()
      last += classify::train_step({.device = device}, model, inputs, labels, /*label_smoothing=*/0) / 4;
      // optimizer.step(); optimizer.zero_grad()
      optimizer.step(/*momentum=*/0.9f, /*clip=*/0);
    }
    if (epoch == 0) first = last;
    std::printf("epoch %d  loss %.4f\n", epoch, last);
  }
  return last < first ? 0 : 1;
} catch (const Error& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
