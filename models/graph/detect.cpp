#include "models/graph/detect.h"

#include <cmath>
#include <utility>

namespace frost {

Detect::Detect(Device& device, int classes, const std::vector<std::vector<float>>& pixels,
               const std::vector<std::int64_t>& channels)
    : classes(classes),
      anchors_each(static_cast<int>(pixels.front().size() / 2)),
      levels_count(static_cast<int>(pixels.size())),
      anchors(add_buffer(device, "anchors", {levels_count, 1, anchors_each, 2}, {levels_count, anchors_each, 2}, 0.0f)) {
  FROST_CHECK(channels.size() == pixels.size(), "Detect: ", channels.size(), " inputs but anchors for ", pixels.size(),
              " levels");
  std::vector<float> flat;
  for (const auto& level : pixels) flat.insert(flat.end(), level.begin(), level.end());
  anchors.value.assign(flat);
  auto list = std::make_unique<Sequential>();
  for (const std::int64_t c : channels)
    convs.push_back(static_cast<Conv2d*>(&list->append(std::make_unique<Conv2d>(
        device, c, static_cast<std::int64_t>(anchors_each) * (classes + 5), ConvGeometry{}, true))));
  add_child("m", std::move(list));
}

std::vector<Var> Detect::heads(Context& context, const std::vector<Var>& inputs) {
  FROST_CHECK(inputs.size() == convs.size(), name(), ": ", inputs.size(), " inputs for ", convs.size(), " levels");
  std::vector<Var> maps;
  for (std::size_t level = 0; level < convs.size(); ++level)
    maps.push_back(convs[level]->forward_as(context, inputs[level], DType::f32));
  return maps;
}

void Detect::set_strides(const std::vector<float>& found) {
  strides = found;
  set_anchors(anchors.value.to_vector());
  add_prior();
}

void Detect::set_classes(int count, Rng rng) {
  classes = count;
  for (Conv2d* conv : convs) {
    conv->resize(conv->in, static_cast<std::int64_t>(anchors_each) * (classes + 5));
    conv->initialise(rng);
  }
  add_prior();
}

void Detect::add_prior() {
  for (std::size_t level = 0; level < convs.size(); ++level) {
    std::vector<float> bias = convs[level]->bias->value.to_vector();
    const double objects = std::log(8.0 / std::pow(640.0 / strides[level], 2)),
                 classes_term = std::log(0.6 / (classes - 0.99999));
    for (std::size_t i = 0; i < bias.size(); ++i) {
      const std::size_t attribute = i % static_cast<std::size_t>(classes + 5);
      if (attribute == 4) bias[i] += static_cast<float>(objects);
      if (attribute > 4) bias[i] += static_cast<float>(classes_term);
    }
    convs[level]->bias->value.assign(bias);
    convs[level]->bias->touch();
  }
}

bool Detect::set_anchors(std::vector<float> values) {
  FROST_CHECK(values.size() == strides.size() * static_cast<std::size_t>(anchors_each) * 2, name(), ": ", values.size(),
              " numbers for ", strides.size(), " levels of ", anchors_each, " anchors");
  const std::size_t per_level = static_cast<std::size_t>(anchors_each) * 2;
  const auto mean_area = [&](std::size_t level) {
    double sum = 0;
    for (std::size_t a = 0; a < per_level; a += 2)
      sum += static_cast<double>(values[level * per_level + a]) * values[level * per_level + a + 1];
    return sum;
  };
  const double growth = mean_area(strides.size() - 1) - mean_area(0), direction = strides.back() - strides.front();
  const bool turn = growth != 0 && growth * direction < 0;  // listed from large to small
  if (turn) {
    std::vector<float> turned;
    for (std::size_t level = strides.size(); level-- > 0;)
      turned.insert(turned.end(), values.begin() + static_cast<std::ptrdiff_t>(level * per_level),
                    values.begin() + static_cast<std::ptrdiff_t>((level + 1) * per_level));
    values = std::move(turned);
  }
  for (std::size_t i = 0; i < values.size(); ++i) values[i] /= strides[i / per_level];
  anchors.value.assign(values);
  anchors.touch();
  return turn;
}

std::vector<float> Detect::anchor_pixels() const {
  const std::size_t per_level = static_cast<std::size_t>(anchors_each) * 2;
  std::vector<float> values = anchors.value.to_vector();
  for (std::size_t i = 0; i < values.size(); ++i) values[i] *= strides[i / per_level];
  return values;
}

std::vector<DetectLevel> Detect::levels(const std::vector<Var>& maps) const {
  if (grid_version_ != anchors.version) {  // reading them waits for the device: not in every step
    grid_ = anchors.value.to_vector();
    grid_version_ = anchors.version;
  }
  const std::ptrdiff_t per_level = anchors_each * 2;
  std::vector<DetectLevel> result;
  for (std::size_t level = 0; level < maps.size(); ++level) {
    const auto first = grid_.begin() + static_cast<std::ptrdiff_t>(level) * per_level;
    result.push_back({.head = maps[level].value, .anchors = {first, first + per_level}, .stride = strides[level]});
  }
  return result;
}

}  // namespace frost
