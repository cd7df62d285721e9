#include <dlfcn.h>
#include <unistd.h>

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <numeric>
#include <set>
#include <sstream>

#include "kernels/cuda/convolution/conv_graph.h"
#include "kernels/cuda/runtime/plan_store.h"
#include "kernels/trace/trace.h"
#include "models/classify/classifier.h"
#include "models/graph/detection_model.h"
#include "tests/source_dir.h"

// cuDNN's heuristics answer for an H100 that is only described (h100.json, put together from the data sheet): every
// convolution graph that the models need is built by the backend's own builder and must get at least one engine.
using namespace frost;
using namespace frost::cuda;

namespace {

constexpr std::int64_t kAll = 1024;

CudnnDevice h100() {
  static const CudnnDevice device = [] {
    std::ifstream file(frost::testing::source_dir() / "tests/kernels/h100.json");
    std::stringstream text;
    text << file.rdbuf();
    return described_device(text.str());
  }();
  return device;
}

struct Convolution {
  ConvGeometry geometry;
  Shape x;  // batch 1
  std::int64_t filters;
  bool backward_data = true;
  auto operator<=>(const Convolution&) const = default;
};
using Network = std::vector<Convolution>;

/// The convolutions of one training pass, as the model itself calls them. It is run at a `small` size; all its strides
/// divide that, so that the sides at `size` are the same multiple of the small ones everywhere.
template <class Forward>
Network record(Device& device, std::int64_t small, std::int64_t size, const Forward& forward) {
  Tape tape;
  Profile profile;
  Context context{.device = device, .tape = &tape, .training = true, .profile = &profile};
  forward(context, Var{Tensor::zeros(device, {2, small, small, 3}, DType::f32, Role::input), -1, nullptr});
  Network network;
  for (const Profile::ConvCall& call : profile.calls) {
    const Shape x{1, call.x.h * (size / small), call.x.w * (size / small), call.x.c};
    network.push_back({call.geometry, x, call.filters, call.backward_data});
  }
  return network;
}
Network detector(const std::string& name) {
  Device device(make_cpu_backend());
  DetectionModel model(device, load_model_spec(name));
  return record(device, 64, 640, [&](Context& context, const Var& image) { model.heads(context, image); });
}
Network classifier(const std::string& name) {
  const std::unique_ptr<Backend> cpu = make_cpu_backend();
  Device meta(make_meta_backend(*cpu, {}));  // costs nothing at its own size: windows without padding have no small one
  const auto model = classify::make_classifier(meta, name, 10, {});
  return record(meta, 224, 224, [&](Context& context, const Var& image) { model->forward(context, image); });
}

ConvGeometry square(int kernel, int stride) {
  return {.kernel_h = kernel,
          .kernel_w = kernel,
          .stride_h = stride,
          .stride_w = stride,
          .pad_h = kernel / 2,
          .pad_w = kernel / 2};
}

const std::map<std::string, Network>& networks() {
  static const std::map<std::string, Network> all = [] {
    std::map<std::string, Network> made;
    for (const char* name :
         {"yolov5n", "yolov5s", "yolov5m", "yolov5l", "yolov5x", "yolov5-old", "yolov5s-ghost"})  // ghost: depthwise
      made[name] = detector(name);
    for (const char* name : {"resnet18", "resnet50", "vgg16"}) made[name] = classifier(name);
    return made;
  }();
  return all;
}

ConvKey key_of(const Convolution& c, ConvPass pass, std::int64_t batch, DType type) {
  const Shape x{batch, c.x.h, c.x.w, c.x.c};
  return conv_key(pass, c.geometry, x, c.geometry.output(x, c.filters), type);
}

struct Answer {
  std::size_t configurations = 0;
  std::int64_t workspace = 0;  // of the first
};
Answer ask(const ConvKey& key) {
  const auto candidates = ConvGraph(key, h100()).candidates(kAll);
  return {candidates.size(), candidates.empty() ? 0 : candidates[0].workspace};
}

constexpr std::array kPasses{ConvPass::forward, ConvPass::backward_data, ConvPass::backward_weight};

const ConvGeometry k3x3 = square(3, 1);

}  // namespace

TEST_CASE("every convolution of the models has engines on an H100: forward, both backward, f16 and bf16, batch 1, 16, 32") {
  std::map<ConvKey, Answer> answers;
  std::printf(
      "cuDNN %zu, H100 from its data sheet. Least and most configurations of a graph; largest workspace of a first choice\n",
      cudnnGetVersion());
  std::printf("%-14s %5s %-5s %8s  %-24s %-24s %-24s\n", "model", "batch", "type", "graphs", "forward", "backward_data",
              "backward_weight");
  for (const auto& [name, network] : networks()) {
    const std::set<Convolution> distinct(network.begin(), network.end());
    for (const std::int64_t batch : {1, 16, 32})
      for (const DType type : {DType::f16, DType::bf16}) {
        std::size_t graphs = 0;
        std::string columns;
        for (const ConvPass pass : kPasses) {
          std::size_t least = kAll, most = 0;
          std::int64_t workspace = 0;
          for (const Convolution& c : distinct) {
            if (pass == ConvPass::backward_data && !c.backward_data) continue;  // the image's gradient
            const ConvKey key = key_of(c, pass, batch, type);
            const auto [it, fresh] = answers.try_emplace(key);
            if (fresh) it->second = ask(key);
            INFO(name, ": ", detail::join(key));
            CHECK(it->second.configurations > 0);
            least = std::min(least, it->second.configurations);
            most = std::max(most, it->second.configurations);
            workspace = std::max(workspace, it->second.workspace);
            ++graphs;
          }
          char text[64];
          std::snprintf(text, sizeof text, " %3zu..%-3zu %8.1f MB     ", least, most, static_cast<double>(workspace) * 1e-6);
          columns += text;
        }
        std::printf("%-14s %5ld %-5s %8zu %s\n", name.c_str(), static_cast<long>(batch), name_of(type), graphs,
                    columns.c_str());
      }
  }
  std::printf("%zu distinct graphs\n", answers.size());
  CHECK(answers.size() > 2000);
}

TEST_CASE("padding keeps cuDNN from copying whole tensors to its workspace") {
  // Among the first few, which the backend times, one has to do without: at batch 16, for every pass of a YOLOv5.
  constexpr std::int64_t kTimed = 6, kSmall = 4 << 20;
  const auto least = [](const ConvKey& key) {
    std::int64_t bytes = std::int64_t{1} << 62;
    for (const Candidate& c : ConvGraph(key, h100()).candidates(kTimed)) bytes = std::min(bytes, c.workspace);
    return bytes;
  };
  for (const Convolution& c : networks().at("yolov5s"))
    for (const DType type : {DType::f16, DType::bf16})
      for (const ConvPass pass : kPasses) {
        if (pass == ConvPass::backward_data && !c.backward_data) continue;
        const ConvKey key = key_of(c, pass, 16, type);
        INFO(detail::join(key));
        CHECK(least(key) <= kSmall);
      }
  // What it would be without: a head of 255 channels, and the image's gradient of filters.
  const Shape x{16, 80, 80, 128}, y{16, 80, 80, 255};
  ConvKey head = conv_key(ConvPass::forward, {}, x, y, DType::bf16);
  CHECK(least(head) < kSmall);
  head.y = y;
  CHECK(least(head) > 50'000'000);
  const Convolution& stem = networks().at("yolov5s").front();
  ConvKey image = key_of(stem, ConvPass::backward_weight, 16, DType::bf16);
  CHECK(least(image) < kSmall);
  image.x.c = 3;
  CHECK(least(image) > 50'000'000);
}

TEST_CASE("f32: engines without TF32, and with it where it was asked for; deterministic engines alone") {
  for (const ConvPass pass : kPasses)
    for (const std::int64_t channels : {32, 255}) {
      const Shape x{2, 40, 40, 32}, y{2, 40, 40, channels};
      const auto exact = ConvGraph(conv_key(pass, k3x3, x, y, DType::f32), h100()).candidates(kAll);
      const auto tf32 = ConvGraph(conv_key(pass, k3x3, x, y, DType::f32, true), h100()).candidates(kAll);
      const auto sure = ConvGraph(conv_key(pass, k3x3, x, y, DType::f32, false, true), h100()).candidates(kAll);
      CHECK(!exact.empty());
      CHECK(!sure.empty());
      CHECK(tf32.size() > exact.size());
      CHECK(sure.size() <= exact.size());
    }
  // A weight gradient may be summed with atomics: --deterministic has fewer engines to choose from, but some.
  const Shape s{16, 80, 80, 64};
  const auto any = ConvGraph(conv_key(ConvPass::backward_weight, k3x3, s, s, DType::f32), h100()).candidates(kAll);
  const auto sure =
      ConvGraph(conv_key(ConvPass::backward_weight, k3x3, s, s, DType::f32, false, true), h100()).candidates(kAll);
  CHECK(sure.size() < any.size());
  CHECK(!sure.empty());
}

TEST_CASE("groups and dilation") {
  ConvGeometry grouped = k3x3, dilated = k3x3, depthwise = square(5, 1);
  grouped.groups = 4;
  dilated.dilation_h = dilated.dilation_w = dilated.pad_h = dilated.pad_w = 2;
  depthwise.groups = 20;
  for (const ConvPass pass : kPasses)
    for (const DType type : {DType::f32, DType::f16, DType::bf16}) {
      const Shape s{4, 20, 20, 64}, narrow{4, 20, 20, 20};
      CHECK(ask(conv_key(pass, grouped, s, s, type)).configurations > 0);
      CHECK(ask(conv_key(pass, dilated, s, s, type)).configurations > 0);
      CHECK(ask(conv_key(pass, depthwise, narrow, narrow, type)).configurations > 0);
    }
}

TEST_CASE("conv + bias and conv + bias + ReLU are fused by engines that come compiled") {
  for (const DType type : {DType::f32, DType::f16, DType::bf16})
    for (const ActivationKind kind : {ActivationKind::identity, ActivationKind::relu}) {
      ConvKey key = conv_key(ConvPass::forward, k3x3, {16, 56, 56, 64}, {16, 56, 56, 64}, type);
      key.bias = true;
      key.activation.kind = kind;
      const auto candidates = ConvGraph(key, h100()).candidates(kAll);
      REQUIRE(!candidates.empty());
      CHECK(!candidates[0].compiled_at_run_time);
    }
}

TEST_CASE("keys: channels grow to what tensor cores load at once, and no further") {
  const Shape image{1, 64, 64, 3}, y{1, 32, 32, 21};
  const ConvGeometry stem{.kernel_h = 6, .kernel_w = 6, .stride_h = 2, .stride_w = 2, .pad_h = 2, .pad_w = 2};
  const ConvKey half = conv_key(ConvPass::forward, stem, image, y, DType::f16);
  CHECK(half.x == Shape{1, 64, 64, 8});
  CHECK(half.y == Shape{1, 32, 32, 24});
  CHECK(half.filters() == Shape{24, 6, 6, 8});
  CHECK(conv_key(ConvPass::forward, stem, image, y, DType::f32).x == image);
  CHECK(conv_key(ConvPass::forward, stem, image, y, DType::f32, true).x.c == 4);
  CHECK(conv_key(ConvPass::forward, stem, image, y, DType::f16, true) == half);  // TF32 is a word about f32
  ConvGeometry depthwise = k3x3;
  depthwise.groups = 21;
  const ConvKey grown = conv_key(ConvPass::forward, depthwise, y, y, DType::bf16);
  CHECK(grown.geometry.groups == 24);
  CHECK(grown.filters() == Shape{24, 3, 3, 1});
  ConvGeometry grouped = k3x3;
  grouped.groups = 3;
  CHECK(conv_key(ConvPass::forward, grouped, y, y, DType::bf16).x == y);
  // Every field is part of the name on disk.
  std::set<std::string> names{identifier(half)};
  const auto differs = [&](auto change) {
    ConvKey key = half;
    change(key);
    CHECK(names.insert(identifier(key)).second);
  };
  differs([](ConvKey& k) { k.pass = ConvPass::backward_data; });
  differs([](ConvKey& k) { k.geometry.stride_w = 1; });
  differs([](ConvKey& k) { k.geometry.pad_h = 1; });
  differs([](ConvKey& k) { k.geometry.dilation_h = 2; });
  differs([](ConvKey& k) { k.geometry.groups = 2; });
  differs([](ConvKey& k) { k.x.n = 2; });
  differs([](ConvKey& k) { k.y.c = 16; });
  differs([](ConvKey& k) { k.dtype = DType::bf16; });
  differs([](ConvKey& k) { k.bias = true; });
  differs([](ConvKey& k) { k.activation.kind = ActivationKind::silu; });
  differs([](ConvKey& k) { k.activation.slope = 1; });
  differs([](ConvKey& k) { k.alignment = 4; });
  differs([](ConvKey& k) { k.tf32 = true; });
  differs([](ConvKey& k) { k.deterministic = true; });
  // A multiply-add counts twice: 6x6x8 for each of 32*32*24 results.
  CHECK(cost(half).flops == 2. * 32 * 32 * 24 * 6 * 6 * 8);
  CHECK(cost(half).bytes == 2. * (64 * 64 * 8 + 32 * 32 * 24 + 24 * 6 * 6 * 8));
}

TEST_CASE("a choice can be written down and made again") {
  for (const ConvPass pass : kPasses) {
    const ConvGraph graph(conv_key(pass, k3x3, {16, 80, 80, 64}, {16, 80, 80, 64}, DType::f16), h100());
    for (const Candidate& candidate : graph.candidates(kAll)) {
      const auto read = engine_choice(to_text(candidate.choice));
      REQUIRE(read);
      CHECK(*read == candidate.choice);
      const auto again = graph.candidate(*read);
      REQUIRE(again);
      CHECK(again->choice == candidate.choice);
      CHECK(again->workspace == candidate.workspace);
    }
    // What an edited file may hold: engines and knobs that do not exist.
    CHECK(!graph.candidate({.engine = 100000, .knobs = {}}));
    CHECK(!graph.candidate({.engine = graph.candidates(1)[0].choice.engine, .knobs = {{2, 123456789}}}));
    CHECK(!graph.candidate({.engine = graph.candidates(1)[0].choice.engine, .knobs = {{123456789, 2}}}));
  }
  // A finished plan, too: cuDNN's own form of it goes to disk and back.
  const ConvKey key = conv_key(ConvPass::forward, k3x3, {16, 80, 80, 64}, {16, 80, 80, 64}, DType::f16);
  const ConvGraph graph(key, h100());
  const auto plan = graph.plan(graph.candidates(1).at(0));
  REQUIRE(plan);
  const std::string serialized = plan->serialized();
  const auto again = graph.plan(serialized);
  REQUIRE(again);
  CHECK(again->workspace() == plan->workspace());
  CHECK(again->serialized() == serialized);
  CHECK(!graph.plan(std::string_view("no plan")));
  CHECK(!graph.plan(std::string_view(serialized).substr(0, serialized.size() / 2)));

  CHECK(*engine_choice("28") == EngineChoice{28, {}});
  CHECK(*engine_choice("1:99=0") == EngineChoice{1, {{99, 0}}});  // of a newer cuDNN than the one that we were built with
  CHECK(*engine_choice("10:12=-1,2=5") == EngineChoice{10, {{12, -1}, {2, 5}}});
  for (const char* text :
       {"", "x", "-1", "1:", "1:2", "1:2=", "1:2=3,", "1:2=3;", "1:-1=0", "1:2=3,4", "99999999999999999999", "1 "})
    CHECK_MESSAGE(!engine_choice(text), text);
}

TEST_CASE("what cuDNN refuses is said in one line, with the convolution and cuDNN's own words") {
  const auto said = [](const auto& action) -> std::string {
    try {
      action();
    } catch (const Error& e) {
      return e.what();
    }
    return "nothing";
  };
  ConvKey key = conv_key(ConvPass::forward, k3x3, {1, 8, 8, 8}, {1, 8, 8, 8}, DType::f16);
  key.y.h = 99;
  const std::string refused = said([&] { ConvGraph(key, h100()); });
  CHECK(refused.find("cuDNN: forward f16 3x3/1 1x8x8x8 -> 1x99x8x8: ") == 0);
  CHECK(refused.find("CUDNN_STATUS_BAD_PARAM") != std::string::npos);
  CHECK(refused.find('\n') == std::string::npos);
  CHECK(said([] { described_device("{}"); }).find("cuDNN: the description of a device: ") == 0);
}

TEST_CASE("plan store: kept from run to run, per device; files that are cut off or strange are left aside") {
  namespace fs = std::filesystem;
  const fs::path folder = fs::temp_directory_path() / ("frost_plans_" + std::to_string(getpid()));
  fs::remove_all(folder);
  const auto key = [](std::int64_t batch) {
    return conv_key(ConvPass::forward, k3x3, {batch, 8, 8, 8}, {batch, 8, 8, 8}, DType::f16);
  };
  const PlanStore::Entry one{{62, {{2, 5}, {12, -1}}}, 12.5}, two{{28, {}}, 1e4};
  fs::path path;
  {
    PlanStore store(folder / "deep", 91900, "NVIDIA H100 80GB HBM3");
    CHECK(!store.find(key(1)));
    store.put(key(1), one);
    PlanStore other(folder / "deep", 91900, "NVIDIA H100 80GB HBM3");  // another process, which has not seen `one`
    other.put(key(2), two);
    path = store.path();
  }
  const auto reread = [&] { return PlanStore(folder / "deep", 91900, "NVIDIA H100 80GB HBM3"); };
  CHECK(*reread().find(key(1)) == one);
  CHECK(*reread().find(key(2)) == two);
  CHECK(!reread().find(key(3)));
  CHECK(PlanStore(folder / "deep", 91901, "NVIDIA H100 80GB HBM3").size() == 0);
  CHECK(PlanStore(folder / "deep", 91900, "NVIDIA A100").size() == 0);
  CHECK(std::distance(fs::directory_iterator(path.parent_path()), fs::directory_iterator()) == 1);  // no litter

  std::string text;
  {
    std::ifstream file(path);
    std::stringstream all;
    all << file.rdbuf();
    text = all.str();
  }
  const auto write = [&](const std::string& content) { std::ofstream(path) << content; };
  std::fprintf(stderr, "The next lines are part of the test:\n");
  for (std::size_t length = 0; length + 1 < text.size(); length += 31) {  // the last byte is a line's end
    write(text.substr(0, length));
    CHECK(reread().size() == 0);
  }
  for (const std::string& strange :
       {std::string(1000, '\0'), "PK\3\4" + text, text.substr(0, text.find("62:")) + "a" + text.substr(text.find("62:")),
        text.substr(0, text.find("12.5")) + "nan" + text.substr(text.find("12.5") + 4),
        text.substr(0, text.size() - 2) + "9\n"}) {
    write(strange);
    CHECK(reread().size() == 0);
  }
  {
    PlanStore store(folder / "deep", 91900, "NVIDIA H100 80GB HBM3");
    const std::string plan = "{\"kernel\": [1, 2]}\n\0x";
    CHECK(!store.compiled(key(1)));
    store.put_compiled(key(1), plan);
    CHECK(store.compiled(key(1)) == plan);
    CHECK(!store.compiled(key(2)));
    const fs::path file = fs::directory_iterator(fs::path(path).replace_extension())->path();
    fs::resize_file(file, fs::file_size(file) - 1);
    CHECK(!store.compiled(key(1)));
    std::ofstream(file) << "nonsense";
    CHECK(!store.compiled(key(1)));
  }
  // A broken file is replaced by the next save; a folder that is none costs a line.
  {
    PlanStore store(folder / "deep", 91900, "NVIDIA H100 80GB HBM3");
    store.put(key(4), two);
  }
  CHECK(*reread().find(key(4)) == two);
  {
    PlanStore nowhere(path, 91900, "NVIDIA H100 80GB HBM3");
    nowhere.put(key(1), one);
  }
  fs::remove_all(folder);
}

// Last: the driver's stub, once loaded, makes cuDNN consider engines that it compiles at run time in every case.
TEST_CASE("conv + bias + SiLU, leaky ReLU, sigmoid: cuDNN takes the graph for its run-time compiled engines") {
  void* driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_GLOBAL);
  if (!driver) driver = dlopen(FROST_CUDA_STUB, RTLD_NOW | RTLD_GLOBAL);
  if (!driver) {
    std::printf("SKIPPED: 1 test case would need a GPU's driver, or the toolkit's stub of it: %s\n", dlerror());
    return;
  }
  using enum ActivationKind;
  for (const DType type : {DType::f16, DType::bf16, DType::f32})
    for (const ActivationKind kind : {silu, leaky_relu, sigmoid}) {
      if (type == DType::f32 && kind != silu) continue;  // a second each
      ConvKey key = conv_key(ConvPass::forward, k3x3, {16, 80, 80, 64}, {16, 80, 80, 64}, type);
      key.bias = true;
      key.activation = {kind, kind == leaky_relu ? .1f : 0.f};
      INFO(detail::join(key));
      CHECK(!ConvGraph(key, h100()).candidates(1).empty());
    }
}
