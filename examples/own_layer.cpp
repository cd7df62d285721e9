// Your own layer and loss, trained with the tape: a small network of sines learns a curve.
#include <frost/frost.h>

#include <cmath>
#include <cstdio>

using namespace frost;

// y = sin(x). Backward needs x, so the node saves it; a node of a frozen network is never made.
struct SineNode : Node {
  Saved x;
  const char* name() const override { return "sine"; }
  Grads backward(Tensor dy) override {
    std::vector<float> values = x.get().to_vector();
    const std::vector<float> above = dy.to_vector();
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = above[i] * std::cos(values[i]);
    return {Tensor::from(dy.device(), dy.shape(), values)};  // one gradient for each input
  }
};

Var sine(Context& context, const Var& x) {
  std::vector<float> values = x.value.to_vector();
  for (float& v : values) v = std::sin(v);
  const Tensor y = Tensor::from(context.device, x.shape(), values);
  if (!context.records(x)) return {y, -1, nullptr};
  auto node = std::make_unique<SineNode>();
  node->x = Saved(x);
  return context.tape->record(y, std::move(node), {&x});
}

struct SineNetwork : Module {
  Linear &first, &second;
  explicit SineNetwork(Device& device)
      : first(add_child("first", std::make_unique<Linear>(device, 1, 32))),
        second(add_child("second", std::make_unique<Linear>(device, 32, 1))) {
    name_all("");
    Rng rng(1);
    first.initialise(rng), second.initialise(rng);
  }
  Var predict(Context& context, const Var& x) { return second.forward(context, sine(context, first.forward(context, x))); }
};

int main() {
  Device device("auto");
  SineNetwork network(device);
  ParameterArena arena(device, network, /*weight_decay=*/0, /*with_ema=*/false);
  for (ParameterGroup& group : arena.groups()) group.lr = 0.01f;
  Optimizer optimizer(arena, device, OptimizerKind::adam);

  constexpr int kPoints = 128;
  std::vector<float> points(kPoints), curve(kPoints);
  for (int i = 0; i < kPoints; ++i) {
    points[i] = -2.0f + 4.0f * i / kPoints;
    curve[i] = std::sin(3 * points[i]) * std::exp(-points[i] * points[i]);
  }
  const Var x{Tensor::from(device, {kPoints, 1, 1, 1}, points, Role::input), -1, nullptr};

  double loss = 0;
  for (int step = 0; step <= 400; ++step) {
    Tape tape;
    Context context{.device = device, .tape = &tape, .training = true};
    const Var y = network.predict(context, x);

    // The loss, mean (y - curve)^2, and its gradient: what the tape starts from.
    std::vector<float> error = y.value.to_vector();
    loss = 0;
    for (int i = 0; i < kPoints; ++i) {
      error[i] -= curve[i];
      loss += error[i] * error[i] / kPoints;
      error[i] *= 2.0f / kPoints;
    }
    tape.backward({{y.slot, Tensor::from(device, y.shape(), error)}});
    optimizer.step(/*momentum=*/0.9f);
    if (step % 100 == 0) std::printf("step %3d  loss %.5f\n", step, loss);
  }
  return loss < 0.01 ? 0 : 1;
}
