#include "models/zoo/weights.h"

#include <curl/curl.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <exception>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>

#include "engine/base/atomic_file.h"
#include "kernels/error.h"

namespace frost {
namespace {

namespace fs = std::filesystem;

bool released(std::string_view name) {
  for (const char size : std::string_view("nsmlx"))
    for (const char* kind : {"", "6", "-cls", "-seg"})
      if (name == fmt::format("yolov5{}{}.pt", size, kind)) return true;
  return false;
}

std::string trimmed(const std::string& name) {
  constexpr const char* kAround = " \t\r\n'\"";
  const auto first = name.find_first_not_of(kAround);
  return first == name.npos ? "" : name.substr(first, name.find_last_not_of(kAround) - first + 1);
}

/// What the transfer's callbacks share. An exception must not pass through C, so it is stored here.
struct Transfer {
  FileSink& file;
  std::string name;
  Observer& observer;
  std::optional<Progress> bar{};  // in megabytes, once the size is known
  std::size_t bytes = 0, told = 0;
  std::exception_ptr error = nullptr;
};

std::size_t on_data(char* data, std::size_t one, std::size_t count, void* context) {
  auto& transfer = *static_cast<Transfer*>(context);
  try {
    transfer.file.write(data, one * count);
  } catch (...) {
    transfer.error = std::current_exception();
    return CURL_WRITEFUNC_ERROR;
  }
  transfer.bytes += one * count;
  return one * count;
}

int on_progress(void* context, curl_off_t total, curl_off_t now, curl_off_t, curl_off_t) {
  auto& transfer = *static_cast<Transfer*>(context);
  constexpr curl_off_t kMegabyte = 1'000'000;
  if (total < kMegabyte) return 0;
  if (!transfer.bar) transfer.bar.emplace(transfer.observer, transfer.name + " (MB)", total / kMegabyte);
  const auto done = static_cast<std::size_t>(now / kMegabyte);
  if (done > transfer.told) transfer.bar->advance(static_cast<std::int64_t>(done - std::exchange(transfer.told, done)));
  return 0;
}

void download(const std::string& url, const fs::path& target, std::size_t minimum_bytes, Observer& observer) {
  static const bool ready = curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK;
  const std::unique_ptr<CURL, void (*)(CURL*)> curl(ready ? curl_easy_init() : nullptr, [](CURL* c) {
    if (c) curl_easy_cleanup(c);
  });
  FROST_CHECK(curl, "cannot download ", url, ": libcurl does not start");
  observer.warning(fmt::format("Downloading {} to {}...\n", url, target.string()));
  write_file_atomically(target, [&](FileSink& file) {
    Transfer transfer{.file = file, .name = target.filename().string(), .observer = observer};
    std::array<char, CURL_ERROR_SIZE> reason{};
    const auto set = [&](CURLoption option, auto value) { curl_easy_setopt(curl.get(), option, value); };
    set(CURLOPT_URL, url.c_str());
    set(CURLOPT_FOLLOWLOCATION, 1L);
    set(CURLOPT_FAILONERROR, 1L);  // a 404's page is not the file
    set(CURLOPT_CONNECTTIMEOUT, 10L);
    set(CURLOPT_LOW_SPEED_LIMIT, 100L);  // bytes per second, over
    set(CURLOPT_LOW_SPEED_TIME, 30L);    // seconds: a dead connection
    set(CURLOPT_NOSIGNAL, 1L);
    set(CURLOPT_ERRORBUFFER, reason.data());
    set(CURLOPT_WRITEFUNCTION, on_data);
    set(CURLOPT_WRITEDATA, static_cast<void*>(&transfer));
    set(CURLOPT_NOPROGRESS, 0L);
    set(CURLOPT_XFERINFOFUNCTION, on_progress);
    set(CURLOPT_XFERINFODATA, static_cast<void*>(&transfer));
    const CURLcode code = curl_easy_perform(curl.get());
    if (transfer.error) std::rethrow_exception(transfer.error);
    if (code != CURLE_OK)
      fail("cannot download ", url, ": ", reason[0] ? reason.data() : curl_easy_strerror(code), " (put the file into ",
           target.parent_path().string(), " by hand)");
    FROST_CHECK(transfer.bytes >= minimum_bytes, "cannot download ", url, ": only ", transfer.bytes,
                " bytes came, at least ", minimum_bytes, " were expected");
    if (transfer.bar) transfer.bar->finish();
  });
}

}  // namespace

fs::path weights_cache() {
  const auto variable = [](const char* name) {
    const char* value = std::getenv(name);
    return fs::path(value ? value : "");
  };
  if (const auto own = variable("FROST_CACHE"); !own.empty()) return own / "weights";
  if (const auto xdg = variable("XDG_CACHE_HOME"); !xdg.empty()) return xdg / "frost" / "weights";
  const auto home = variable("HOME");
  return (home.empty() ? fs::temp_directory_path() : home / ".cache") / "frost" / "weights";
}

fs::path find_weights(const std::string& given, Observer& observer, const WeightsOptions& options) {
  const fs::path path = trimmed(given);
  FROST_CHECK(!path.empty(), "no weights file is named");
  std::error_code ignored;
  if (fs::exists(path, ignored)) return path;
  const std::string name = path.filename().string();
  const fs::path cached = (options.cache.empty() ? weights_cache() : options.cache) / name;
  if (fs::exists(cached, ignored)) return cached;
  FROST_CHECK(released(name), "weights file not found: ", path.string(),
              " (a path, or a released name such as yolov5n.pt, yolov5s.pt, yolov5m6.pt)");
  download(options.url + "/" + name, cached, options.minimum_bytes, observer);
  return cached;
}

}  // namespace frost
