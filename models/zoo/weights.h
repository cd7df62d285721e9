#pragma once
#include <filesystem>
#include <string>

#include "engine/report/observer.h"

namespace frost {

struct WeightsOptions {
  std::filesystem::path cache;                                                       // empty: weights_cache()
  std::string url = "https://github.com/ultralytics/yolov5/releases/download/v7.0";  // the folder with the released files
  std::size_t minimum_bytes = 100'000;                                               // a shorter answer is an error page
};

/// $FROST_CACHE, else $XDG_CACHE_HOME/frost, else ~/.cache/frost; with /weights appended.
std::filesystem::path weights_cache();

/// Where the weights called `name` lie: that file if it exists, else the file of that name in the cache, else, for the names
/// of the YOLOv5 release (yolov5{n,s,m,l,x}{,6,-cls,-seg}.pt), the file downloaded into the cache. Blanks and quotes around
/// the name are ignored. Throws frost::Error: not found, or the download failed, with its URL. See docs/spec/tools.md
/// section 3. What is downloaded, and how far, goes to `observer`.
std::filesystem::path find_weights(const std::string& name, Observer& observer = silence(),
                                   const WeightsOptions& options = {});

}  // namespace frost
