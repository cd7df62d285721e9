#pragma once
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "engine/base/input_file.h"
#include "engine/checkpoint/host_tensor.h"
#include "engine/checkpoint/pickle.h"
#include "engine/checkpoint/zip_archive.h"

namespace frost {

/// A file of torch.save: the zip container or the legacy one. Nothing in it is executed. See docs/spec/checkpoint.md
/// sections 1 to 5. Errors are frost::Error with the file's name and one cause.
class TorchFile {
 public:
  explicit TorchFile(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }
  const pickle::Document& document() const { return document_; }
  pickle::Ref root() const { return document_.root(); }

  /// The values of a tensor, made row-major. `where` is its place in the file, for error texts.
  HostTensor tensor(pickle::Ref ref, std::string_view where) const;
  /// A pickled module's parameters and buffers under the names of its PyTorch state dict: own parameters, own buffers,
  /// children.
  StateDict module_state(pickle::Ref module) const;
  /// The module itself, out of a DataParallel wrapper.
  pickle::Ref unwrapped(pickle::Ref module) const;
  /// The map or module that holds the weights: under `ema` (unless it is None), `model` or `state_dict`, else the root;
  /// unwrapped.
  pickle::Ref weights() const;
  /// The tensors of weights(). A `module.` prefix (DataParallel) is dropped where all names have it.
  StateDict state_dict() const;

  /// What a value is, for error texts: "a dict", "models.yolo.DetectionModel", "refused global os.system".
  std::string describe(pickle::Ref ref) const;
  [[noreturn]] void refuse(std::string_view what, std::string_view where) const;

 private:
  void read_zip();
  void read_legacy();
  std::vector<std::byte> unzipped(const std::string& entry) const;
  std::span<const std::byte> stored_bytes(const pickle::Storage& storage) const;
  struct Walk;
  void collect(pickle::Ref module, const std::string& prefix, Walk& walk) const;
  StateDict tensors_of(pickle::Ref dict) const;

  std::filesystem::path path_;
  FileBytes file_;
  std::shared_ptr<Budget> budget_;
  std::unique_ptr<ZipArchive> zip_;                                 // zip container
  std::string folder_;                                              // its root, with the slash
  mutable std::map<std::string, std::vector<std::byte>> unpacked_;  // storages that several tensors may share
  std::map<std::string, std::span<const std::byte>> legacy_storages_;
  pickle::Document document_;
};

}  // namespace frost
