#include "models/run/inference.h"

#include <utility>

namespace frost::run {

Inference::Inference(Device& device, Module& model, DType compute, bool capture, Prepare prepare, Network network)
    : device_(device),
      model_(model),
      compute_(compute),
      prepare_(std::move(prepare)),
      network_(std::move(network)),
      work_(device, nullptr, capture) {}

void Inference::load(const Shape& shape, const std::vector<std::uint8_t>& rgb) {
  std::erase_if(passes_, [&](const auto& pass) { return !work_.captured(key_of(pass.first)); });  // for the next shape
  before_ = std::exchange(shape_, shape);
  Tensor& input = passes_[shape].input;
  const Tensor pixels(device_, shape, DType::u8, Role::input);
  device_.backend().upload(pixels.data(), rgb.data(), static_cast<std::size_t>(shape.elements()));
  if (!input) input = Tensor(device_, shape, compute_, Role::input);
  prepare_(pixels, input);
  device_.backend().synchronize();
}

const std::vector<Var>& Inference::run() {
  const CapturedStep::Key key = key_of(shape_);
  if (work_.captures()) {
    std::vector<std::uint64_t> now = versions();
    if (now != versions_ || (!work_.will_capture(key) && shape_ == before_)) {
      work_.forget();
      std::erase_if(passes_, [&](const auto& pass) { return pass.first != shape_; });
    }
    versions_ = std::move(now);
  }
  Pass& pass = passes_.at(shape_);
  work_.run(key, [&] {
    Context context{.device = device_, .compute = compute_};
    pass.outputs = network_(context, {pass.input, -1, nullptr});
  });
  return pass.outputs;
}

std::vector<std::uint64_t> Inference::versions() const {
  std::vector<std::uint64_t> all;
  model_.visit({.parameter = [&](Parameter& p) { all.push_back(p.version); },
                .buffer = [&](Buffer& b) { all.push_back(b.version); },
                .counter = {}});
  return all;
}

}  // namespace frost::run
