#include "models/yolo/training/cached_prefix.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "kernels/trace/trace.h"
#include "models/yolo/evaluation/validator.h"

namespace frost::yolo {
namespace {
constexpr const char* kOption = "--cache-features";

std::size_t bytes_of(const Shape& shape, DType dtype) { return static_cast<std::size_t>(shape.elements()) * size_of(dtype); }
Shape of_one(Shape shape) {
  shape.n = 1;
  return shape;
}
}  // namespace

CachedPrefix::CachedPrefix(Device& device, DetectionModel& model, DType compute, const std::filesystem::path& folder,
                           Observer& observer)
    : device_(device),
      model_(model),
      compute_(compute),
      cut_(model.frozen_prefix()),
      observer_(observer),
      store_(folder, is_meta(device.backend())) {}

PrefixOutput CachedPrefix::of(const DetectionBatch& batch) {
  const bool kept = on_ && std::all_of(batch.indices.begin(), batch.indices.end(), [&](std::int64_t image) {
                      return kept_.contains({image, batch.n});
                    });
  if (kept && checked_) return fetch(batch);
  PrefixOutput output = compute(batch);
  if (kept)
    check(batch, output);
  else if (on_)
    keep(batch, output);
  return output;
}

void CachedPrefix::check(const DetectionBatch& batch, const PrefixOutput& output) {
  checked_ = true;
  std::vector<std::byte> record;
  for (std::size_t i = 0; i < batch.indices.size(); ++i) {
    const Kept& kept = kept_.at({batch.indices[i], batch.n});
    record.resize(store_.size_of(kept.record));
    store_.get(kept.record, record);
    on_ = on_ && record == record_of(output, i);
  }
  if (!on_)
    observer_.warning(fmt::format(
        "\nWARNING: on this device an image's features depend on the rest of its batch: they are computed in every "
        "epoch, --cache-features is off\n"));
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

std::vector<std::byte> CachedPrefix::record_of(const PrefixOutput& output, std::size_t image) const {
  std::vector<std::byte> record;
  device_.backend().synchronize();
  for (const Tensor& value : output.values) {
    const std::size_t part = bytes_of(of_one(value.shape()), value.dtype()), at = record.size();
    record.resize(at + part);
    device_.backend().download(record.data() + at, static_cast<const std::byte*>(value.data()) + image * part, part);
  }
  return record;
}

void CachedPrefix::keep(const DetectionBatch& batch, const PrefixOutput& output) {
  Kept kept{.record = 0, .shapes = {}};
  for (const Tensor& value : output.values) kept.shapes.push_back(of_one(value.shape()));
  for (std::size_t i = 0; i < batch.indices.size(); ++i) {
    const Key key{batch.indices[i], batch.n};
    if (kept_.contains(key)) continue;
    kept.record = store_.put(record_of(output, i));
    kept_.emplace(key, kept);
  }
}

PrefixOutput CachedPrefix::fetch(const DetectionBatch& batch) {
  ++hits_;
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

void check_cacheable(DetectionModel& model, FrozenBn frozen_bn) {
  FROST_CHECK(model.frozen_prefix() > 0, kOption,
              ": there is nothing to keep, layer 0 trains (--freeze N freezes the first N)");
  FROST_CHECK(frozen_bn == FrozenBn::running, kOption,
              ": with --frozen-bn batch frozen layers normalise with each batch's own statistics, so an image's features "
              "change with the batch it is in; they are constant with --frozen-bn running");
}

}  // namespace frost::yolo
