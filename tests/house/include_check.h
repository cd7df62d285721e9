#pragma once
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <string>
#include <vector>

/// Reads the #include lines of the four floors and of the public face: the table at the top of docs/architecture.md, kept
/// true.
namespace frost::house {

namespace fs = std::filesystem;

/// Which rooms of a floor a room may look into, besides itself and the floors below; a header named in full is vocabulary,
/// open to that room alone. A room that is not named here may look into any room of its floor, as long as no circle closes.
inline const std::map<std::string, std::set<std::string>> kRooms = {
    {"engine/base", {}},
    {"engine/tensor", {"engine/base"}},
    {"engine/image", {"engine/base", "engine/tensor"}},
    {"engine/data", {"engine/base", "engine/tensor", "engine/image"}},
    {"engine/autograd", {"engine/base", "engine/tensor"}},
    {"engine/nn", {"engine/base", "engine/tensor", "engine/autograd"}},
    {"engine/optim", {"engine/base", "engine/tensor", "engine/autograd", "engine/nn"}},
    {"engine/checkpoint", {"engine/base", "engine/tensor", "engine/autograd", "engine/nn"}},
    {"engine/report", {"engine/base", "engine/tensor", "engine/image"}},
    {"kernels", {"kernels/math"}},
    {"kernels/math", {"kernels/activation.h"}},
    {"kernels/cpu", {"kernels", "kernels/math"}},
    {"kernels/cuda", {"kernels", "kernels/math"}},
};

/// Headers of others and the only places that may include them.
struct Vendor {
  const char* header;  // regular expression, from the header's first letter
  std::vector<std::string> rooms;
};
inline const std::vector<Vendor> kVendors = {
    {"(oneapi/)?dnnl", {"kernels/cpu"}},
    {"(cuda|cudnn|cublas|nvrtc)", {"kernels/cuda"}},
    {"cudnn_frontend", {"kernels/cuda/convolution/conv_graph.cpp"}},  // half a minute to compile
    {"(jpeglib|turbojpeg|stb_|zip\\.h|libzip)", {"engine"}},
    {"curl/", {"models/zoo"}},
    {"CLI/", {"tools"}},
};

inline bool within(const std::string& path, const std::string& place) {
  return path == place || path.compare(0, place.size() + 1, place + "/") == 0;
}

/// The nodes of a graph of includes that can reach themselves.
inline std::vector<std::string> in_circles(const std::map<std::string, std::set<std::string>>& graph) {
  std::vector<std::string> found;
  for (const auto& [start, unused] : graph) {
    std::set<std::string> seen;
    std::vector<std::string> open = {start};
    while (!open.empty()) {
      const auto node = graph.find(open.back());
      open.pop_back();
      if (node == graph.end()) continue;
      for (const auto& next : node->second)
        if (seen.insert(next).second) open.push_back(next);
    }
    if (seen.contains(start)) found.push_back(start);
  }
  return found;
}

/// One line for each #include below `root` that points upwards, sideways where it must not, or nowhere. A header and the
/// source files of the same name are one unit; a circle among units is an error, as one among rooms is.
inline std::vector<std::string> broken_includes(const fs::path& root) {
  const std::vector<std::string> floors = {"kernels", "engine", "models", "include", "tools"};  // from the ground up
  const auto floor_of = [&](const std::string& path) {
    return std::find(floors.begin(), floors.end(), path.substr(0, path.find('/'))) - floors.begin();
  };
  const auto room_of = [](const std::string& path) {  // two folders at most: engine/autograd/ops belongs to engine/autograd
    const auto first = path.find('/'), second = path.find('/', first + 1);
    return path.substr(0, second == std::string::npos ? path.rfind('/') : second);
  };
  static const std::regex kInclude("^\\s*#\\s*include\\s*([<\"])([^>\"]+)[>\"]");
  static const std::set<std::string> kSources = {".h", ".hpp", ".cuh", ".cpp", ".cu"};

  std::vector<std::string> broken;
  std::map<std::string, std::set<std::string>> rooms, units;  // what each one includes
  const auto unit_of = [](const std::string& path) { return path.substr(0, path.rfind('.')); };
  for (const auto& floor : floors) {
    if (!fs::exists(root / floor)) continue;
    for (const auto& entry : fs::recursive_directory_iterator(root / floor)) {
      if (!kSources.contains(entry.path().extension().string())) continue;
      const std::string file = fs::relative(entry.path(), root).generic_string(), room = room_of(file);
      std::ifstream in(entry.path());
      std::string line;
      for (int number = 1; std::getline(in, line); ++number) {
        std::smatch match;
        if (!std::regex_search(line, match, kInclude)) continue;
        const std::string target = match[2];
        const auto report = [&](const std::string& why) {
          broken.push_back(file + ":" + std::to_string(number) + ": " + target + ": " + why);
        };
        for (const Vendor& vendor : kVendors) {
          if (!std::regex_search(target, std::regex(std::string("^") + vendor.header))) continue;
          if (std::none_of(vendor.rooms.begin(), vendor.rooms.end(), [&](auto& place) { return within(file, place); }))
            report("this header stays inside " + vendor.rooms.front());
        }
        if (match[1] == "<") continue;
        if (unit_of(target) != unit_of(file)) units[unit_of(file)].insert(unit_of(target));
        if (floor_of(target) == std::ssize(floors)) {
          report("ours are included from the project's root, others in <>");
        } else if (floor_of(target) > floor_of(file)) {
          report("points upwards");
        } else if (!fs::exists(root / target)) {
          report("no such file");
        } else if (const std::string other = room_of(target); other != room && floor_of(target) == floor_of(file)) {
          const auto rule = kRooms.find(room);
          if (rule != kRooms.end() && rule->second.contains(target)) continue;
          if (rule != kRooms.end() && !rule->second.contains(other)) report(room + " must not know " + other);
          rooms[room].insert(other);
        } else if (floor_of(file) > 0 && within(target, "kernels/cuda")) {
          report("the CUDA backend is opened at run time");
        }
      }
    }
  }
  for (const std::string& room : in_circles(rooms)) broken.push_back(room + ": a circle of includes leads back to it");
  for (const std::string& unit : in_circles(units)) broken.push_back(unit + ": a circle of files leads back to it");
  return broken;
}

}  // namespace frost::house
