#pragma once
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "engine/checkpoint/module_state.h"
#include "models/graph/detection_model.h"
#include "tests/device.h"
#include "tests/golden/golden.h"

/// Networks with the deterministic weights of golden/README.md.
namespace frost::golden {

inline std::vector<float> fill_values(const std::string& name, std::int64_t count, const std::vector<std::int64_t>& shape) {
  const Fill fill(name);
  const auto ends = [&](const char* suffix) { return name.ends_with(suffix); };
  std::vector<float> values(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double u = fill.u(i);
    double v;
    if (shape.size() == 4)
      v = (2 * u - 1) * std::sqrt(3.0 / static_cast<double>(shape[1] * shape[2] * shape[3]));
    else if (shape.size() == 2)
      v = (2 * u - 1) * std::sqrt(3.0 / static_cast<double>(shape[1]));
    else if (ends("running_mean") || ends("bias"))
      v = (2 * u - 1) * 0.1;
    else
      v = 1 + 0.2 * (2 * u - 1);  // batch-norm weight, running_var
    values[i] = static_cast<float>(v);
  }
  return values;
}

inline void fill_model(Module& model) {
  StateDict state;
  const auto add = [&](const std::string& name, const std::vector<std::int64_t>& shape, std::int64_t count) {
    if (name.ends_with("anchors")) return;
    state.add(name, HostTensor::from_f32(shape, fill_values(name, count, shape)));
  };
  model.visit({.parameter = [&](Parameter& p) { add(p.name, p.torch_shape, p.value.elements()); },
               .buffer = [&](Buffer& b) { add(b.name, b.torch_shape, b.value.elements()); },
               .counter = [&](Counter& c) { state.add(c.name, HostTensor::from_i64({}, {{0}})); }});
  load_state(model, state);
}

/// The stream `name` as an NHWC tensor of NCHW shape `nchw_shape`.
inline frost::Tensor fill_image(Device& device, const std::string& name, const std::vector<std::int64_t>& nchw_shape) {
  const Fill fill(name);
  const std::int64_t n = nchw_shape[0], c = nchw_shape[1], h = nchw_shape[2], w = nchw_shape[3];
  std::vector<float> values(static_cast<std::size_t>(n * c * h * w));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(fill.u(i));
  return frost::Tensor::from(device, {n, h, w, c}, nhwc(values, n, c, h, w), Role::input);
}

/// The same values in another type.
inline frost::Tensor as_type(const frost::Tensor& image, DType type) {
  frost::Tensor converted(image.device(), image.shape(), type, Role::input);
  converted.assign(image.to_vector());
  return converted;
}

/// How near activations of a type have to come to the reference, relative to its scale: f32 keeps 24 bits and goes through
/// some sixty convolutions; f16 keeps 11 bits, bf16 8.
inline double tolerance(DType type) { return type == DType::f32 ? 1e-4 : type == DType::f16 ? 2e-2 : 5e-2; }

/// The 16-bit types that a GPU, or CUDA's kernels on the host, compute with; on the CPU none, which is said aloud.
inline std::vector<DType> half_types(Device& device) {
  std::vector<DType> types;
  for (const DType type : {DType::f16, DType::bf16})
    if (!frost::testing::on_cpu() && device.backend().supports(type)) types.push_back(type);
  if (types.empty())
    std::cout << "SKIPPED: FROST_TEST_DEVICE=" << frost::testing::test_device()
              << ": networks in 16 bits are compared where CUDA's kernels run" << std::endl;
  return types;
}

/// A subcase's name: "bf16 resnet18".
inline std::string in_type(DType type, const std::string& what) { return std::string(name_of(type)) + " " + what; }

/// A head map (B, ny, nx, na*no) as YOLOv5 lists it: (B, na, ny, nx, no).
inline std::vector<float> head_order(const frost::Tensor& map, int anchors) {
  const std::vector<float> values = map.to_vector();
  const Shape s = map.shape();
  const std::int64_t no = s.c / anchors;
  std::vector<float> out(values.size());
  std::size_t at = 0;
  for (std::int64_t b = 0; b < s.n; ++b)
    for (std::int64_t a = 0; a < anchors; ++a)
      for (std::int64_t p = 0; p < s.h * s.w; ++p)
        for (std::int64_t k = 0; k < no; ++k)
          out[at++] = values[static_cast<std::size_t>(((b * s.h * s.w + p) * anchors + a) * no + k)];
  return out;
}

inline std::vector<float> nchw_values(const frost::Tensor& t) {
  return nchw(t.to_vector(), t.shape().n, t.shape().h, t.shape().w, t.shape().c);
}

inline double l2(const std::vector<float>& values) {
  double sum = 0;
  for (const float v : values) sum += static_cast<double>(v) * v;
  return std::sqrt(sum);
}
inline std::vector<float> first(const std::vector<float>& values, std::size_t count) {
  std::vector<float> head(count, 0.0f);
  for (std::size_t i = 0; i < std::min(count, values.size()); ++i) head[i] = values[i];
  return head;
}

}  // namespace frost::golden
