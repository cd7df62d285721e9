#include "models/yolo/cached_prefix.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "models/yolo/validator.h"

namespace frost::yolo {
namespace {
std::size_t bytes_of(const Shape& shape, DType dtype) { return static_cast<std::size_t>(shape.elements()) * size_of(dtype); }
Shape of_one(Shape shape) {
  shape.n = 1;
  return shape;
}
bool same_bits(const std::vector<Tensor>& a, const std::vector<Tensor>& b) {
  for (std::size_t k = 0; k < a.size(); ++k) {
    const std::size_t bytes = bytes_of(a[k].shape(), a[k].dtype());
    std::vector<std::byte> left(bytes), right(bytes);
    Backend& backend = a[k].backend();
    backend.synchronize();
    backend.download(left.data(), a[k].data(), bytes);
    backend.download(right.data(), b[k].data(), bytes);
    if (left != right) return false;
  }
  return true;
}
}  // namespace

CachedPrefix::CachedPrefix(Device& device, DetectionModel& model, DType compute, const std::filesystem::path& folder)
    : device_(device), model_(model), compute_(compute), cut_(model.frozen_prefix()), store_(folder) {}

PrefixOutput CachedPrefix::of(const DetectionBatch& batch) {
  const auto known = [&](std::int64_t image) { return kept_.contains({image, batch.n}); };
  if (!on_ || !std::all_of(batch.indices.begin(), batch.indices.end(), known)) {
    PrefixOutput output = compute(batch);
    if (on_) keep(batch, output);
    return output;
  }
  PrefixOutput output = fetch(batch);
  ++hits_;
  if (!checked_) {
    checked_ = true;
    PrefixOutput again = compute(batch);
    on_ = same_bits(output.values, again.values);
    if (!on_) {
      fmt::print(stderr,
                 "\nWARNING: on this device an image's features depend on the rest of its batch: they are computed "
                 "in every epoch, --cache-features is off\n");
      return again;
    }
  }
  return output;
}

PrefixOutput CachedPrefix::compute(const DetectionBatch& batch) {
  Context context{.device = device_, .training = true, .compute = compute_};
  PrefixOutput output{.cut = cut_, .values = {}};
  for (Var& feature : model_.features(context, {network_input(device_, batch, compute_), -1, nullptr}, cut_)) {
    FROST_CHECK(feature.value.packed(), "features of the frozen prefix: a slice cannot be kept");
    output.values.push_back(std::move(feature.value));
  }
  return output;
}

void CachedPrefix::keep(const DetectionBatch& batch, const PrefixOutput& output) {
  Kept kept{.record = 0, .shapes = {}};
  std::size_t bytes = 0;
  for (const Tensor& value : output.values) {
    kept.shapes.push_back(of_one(value.shape()));
    bytes += bytes_of(kept.shapes.back(), value.dtype());
  }
  std::vector<std::byte> record(bytes);
  device_.backend().synchronize();
  for (std::size_t i = 0; i < batch.indices.size(); ++i) {
    const Key key{batch.indices[i], batch.n};
    if (kept_.contains(key)) continue;
    std::byte* to = record.data();
    for (const Tensor& value : output.values) {
      const std::size_t part = bytes_of(of_one(value.shape()), value.dtype());
      device_.backend().download(to, static_cast<const std::byte*>(value.data()) + i * part, part);
      to += part;
    }
    kept.record = store_.put(record);
    kept_.emplace(key, kept);
  }
}

PrefixOutput CachedPrefix::fetch(const DetectionBatch& batch) const {
  PrefixOutput output{.cut = cut_, .values = {}};
  for (Shape shape : kept_.at({batch.indices[0], batch.n}).shapes) {
    shape.n = batch.n;
    output.values.emplace_back(device_, shape, compute_, Role::input);
  }
  std::vector<std::byte> record;
  for (std::size_t i = 0; i < batch.indices.size(); ++i) {
    const Kept& kept = kept_.at({batch.indices[i], batch.n});
    record.resize(store_.size_of(kept.record));
    store_.get(kept.record, record);
    const std::byte* from = record.data();
    for (const Tensor& value : output.values) {
      const std::size_t part = bytes_of(of_one(value.shape()), value.dtype());
      device_.backend().upload(static_cast<std::byte*>(value.data()) + i * part, from, part);
      from += part;
    }
  }
  return output;
}

void check_cacheable(const TrainConfig& config, const Hyp& hyp, DetectionModel& model) {
  const std::string option = "--cache-features";
  FROST_CHECK(model.frozen_prefix() > 0, option,
              ": there is nothing to keep, layer 0 trains (--freeze N freezes the first N)");
  FROST_CHECK(config.frozen_bn == FrozenBn::running, option,
              ": with --frozen-bn batch frozen layers normalise with each batch's own statistics, so an image's features "
              "change with the batch it is in; they are constant with --frozen-bn running");
  FROST_CHECK(!config.multi_scale, option, ": --multi-scale changes the image size from batch to batch");
  std::vector<std::string> keys{"hsv_h", "hsv_s", "hsv_v",       "degrees", "translate",
                                "scale", "shear", "perspective", "flipud",  "fliplr"};
  if (!config.rect) keys.insert(keys.end(), {"mosaic", "mixup", "copy_paste"});
  std::erase_if(keys, [&](const std::string& key) { return hyp.get(key) == 0; });
  FROST_CHECK(keys.empty(), option, ": augmentation makes another picture in every epoch; these must be 0 in ", config.hyp,
              ": ", fmt::format("{}", fmt::join(keys, ", ")), " (--hyp no-augmentation has them so)");
}

}  // namespace frost::yolo
