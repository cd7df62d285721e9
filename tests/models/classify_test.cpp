#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>

#include "engine/checkpoint/module_state.h"
#include "engine/checkpoint/safetensors.h"
#include "engine/image/codec.h"
#include "engine/optim/optimizer.h"
#include "engine/optim/schedule.h"
#include "kernels/trace/trace.h"
#include "models/classify/dataset.h"
#include "models/classify/resnet_v2.h"
#include "models/classify/step.h"
#include "models/classify/validator.h"
#include "models/classify/weights.h"
#include "models/graph/detection_model.h"
#include "models/zoo/module_comparison.h"
#include "models/zoo/yolo_checkpoint.h"
#include "tests/device.h"
#include "tests/engine/torch_builder.h"
#include "tests/golden/golden.h"
#include "tests/models/pickled_model.h"
#include "tests/models/stripes.h"
#include "tests/numbers.h"

// Classifiers without reference numbers: blocks in closed form, weights of all kinds of files, data, transfer.
using namespace frost;
using namespace frost::build;
using frost::testing::noise;
namespace fs = std::filesystem;

namespace {

const Folder& folder() {
  static const Folder f;
  return f;
}

/// A state dict as torch.save writes it, in the zip container or in the one before torch 1.6.
std::string torch_bytes(const StateDict& state, bool legacy) {
  Pairs values, storages;
  std::string keys_fragment = "](", data;
  for (const auto& [name, tensor] : state) {
    const std::string key = std::to_string(storages.size());
    const auto count = static_cast<std::int32_t>(tensor.count());
    const char* type = tensor.dtype == DType::i64 ? "LongStorage" : "FloatStorage";
    std::vector<std::int32_t> size(tensor.shape.begin(), tensor.shape.end()), stride(size.size(), 1);
    for (std::size_t d = size.size(); d-- > 1;) stride[d - 1] = stride[d] * size[d];
    const std::string id =
        legacy ? "(" + text("storage") + global("torch", type) + text(key) + text("cpu") + integer(count) + none() + "tQ"
               : storage(type, key, count);
    values.emplace_back(name, build::tensor(id, 0, size, stride));
    storages.emplace_back(key, std::string(reinterpret_cast<const char*>(tensor.bytes.data()), tensor.bytes.size()));
    keys_fragment += text(key);
    data += little<std::int64_t>(count) + storages.back().second;
  }
  const std::string pickle = pickled(ordered(values));
  if (!legacy) return torch_zip(pickle, storages);
  return "\x80\x02\x8A\x0A\x6C\xFC\x9C\x46\xF9\x20\x6A\xA8\x50\x19." + pickled(integer(1001)) +
         pickled(dict({{"protocol_version", integer(1001)}, {"little_endian", boolean(true)}})) + pickle +
         pickled(keys_fragment + "e") + data;
}

StateDict without(const StateDict& state, const std::string& name) {
  StateDict rest;
  for (const auto& [n, tensor] : state)
    if (n != name) rest.add(n, tensor);
  return rest;
}

std::vector<float> logits_of(Device& device, classify::Classifier& model, const Tensor& image) {
  Context context{.device = device};
  return model.forward(context, {image, -1, nullptr}).value.to_vector();
}

std::int64_t parameters_of(Module& model) {
  std::int64_t count = 0;
  for (const Parameter* p : model.parameters()) count += p->value.elements();
  return count;
}

}  // namespace

TEST_CASE("parameter counts of docs/spec/classify.md sections 1.4, 4 and 6") {
  frost::testing::TestDevice device;
  for (const auto& [name, count] : {std::pair{"resnet18", 11689512L},
                                    {"resnet34", 21797672L},
                                    {"resnet50", 25557032L},
                                    {"yolov5n-cls", 2493000L},
                                    {"yolov5s-cls", 5453480L},
                                    {"yolov5m-cls", 12957640L}}) {
    CAPTURE(name);
    CHECK(parameters_of(*classify::make_classifier(device, name, 1000, {})) == count);
  }
  // Keras counts running statistics too.
  const auto v2 = classify::make_classifier(device, "resnet50v2", 1000, {});
  std::int64_t all = parameters_of(*v2);
  for (const Buffer* b : v2->buffers()) all += b->value.elements();
  CHECK(all == 25613800);
  CHECK_THROWS_WITH_AS(classify::make_classifier(device, "resnet19", 10), doctest::Contains("resnet18, resnet34"), Error);
}

TEST_CASE("resnet50v2: a block in closed form, with and without the shortcut's convolution, striding or not") {
  // Every norm is x -> 2 x + 1 (mean 0, variance 1 - eps), every 1x1 weight sums its inputs times a constant, the 3x3 kernel
  // has its middle alone: each value of the block follows by hand.
  frost::testing::TestDevice device;
  for (const bool first : {true, false})
    for (const int stride : {1, 2}) {
      CAPTURE(first);
      CAPTURE(stride);
      const std::int64_t width = 2, outside = 4 * width;
      classify::PreActivationBlock block(device, outside, width, stride, first);
      block.name_all("block");
      StateDict state = state_of(block), set;
      for (const auto& [name, tensor] : state) {
        if (tensor.dtype == DType::i64) continue;
        std::vector<float> values(static_cast<std::size_t>(tensor.count()), 0.0f);
        if (name.find("_bn.") != std::string::npos) {
          const float value = name.ends_with("weight")         ? 2.0f
                              : name.ends_with("bias")         ? 1.0f
                              : name.ends_with("running_mean") ? 0.0f
                                                               : 1.0f - 1.001e-5f;
          std::fill(values.begin(), values.end(), value);
        } else if (name == "block.2_conv.weight") {
          for (std::size_t o = 0; o < 2; ++o)
            for (std::size_t i = 0; i < 2; ++i) values[(o * 2 + i) * 9 + 4] = 0.5f;
        } else if (name.ends_with("_conv.weight")) {
          std::fill(values.begin(), values.end(), 0.25f);
        } else {
          std::fill(values.begin(), values.end(), name == "block.0_conv.bias" ? 3.0f : -1.0f);
        }
        set.add(name, HostTensor::from_f32(tensor.shape, values));
      }
      load_state(block, set);
      const Shape shape{1, 5, 4, outside};
      const std::vector<float> x = noise(static_cast<std::size_t>(shape.elements()), 3);
      Context context{.device = device};
      const Var y = block.forward(context, {Tensor::from(device, shape, x), -1, nullptr});
      REQUIRE(y.shape() == Shape{1, (5 + stride - 1) / stride, 4 / stride, outside});
      const auto relu = [](double v) { return std::max(v, 0.0); };
      const std::vector<float> values = y.value.to_vector();
      for (std::int64_t h = 0; h < y.shape().h; ++h)
        for (std::int64_t w = 0; w < y.shape().w; ++w) {
          const auto pixel = static_cast<std::size_t>(((h * stride) * shape.w + w * stride) * outside);
          double sum_p = 0;
          for (std::size_t c = 0; c < 8; ++c) sum_p += relu(2.0 * x[pixel + c] + 1);
          const double inside = relu(2 * (0.25 * sum_p) + 1);      // 1_conv, 1_bn: both channels alike
          const double middle = relu(2 * (0.5 * 2 * inside) + 1);  // 2_conv reads two channels
          const double main = 0.25 * 2 * middle - 1;
          for (std::size_t c = 0; c < 8; ++c) {
            const double shortcut = first ? 0.25 * sum_p + 3 : x[pixel + c];
            const auto at = static_cast<std::size_t>((h * y.shape().w + w) * outside) + c;
            CHECK(values[at] == doctest::Approx(shortcut + main).epsilon(1e-5));
          }
        }
    }
}

TEST_CASE("resnet50v2: stages stride in their last block; the stem's pool is padded with zeros; gradients reach the stem") {
  frost::testing::TestDevice device;
  classify::ResNetV2 model(device, 3, 1);
  // With a stem of zero weights and bias -1 everything before the pool is -1, 32x32 of it. The first windows of three
  // begin in the padding, the last end at the last pixel: zeros win in the first row and column, and nowhere else.
  for (Parameter* p : model.parameters())
    if (p->name == "conv1_conv.bias")
      p->value.assign(std::vector<float>(64, -1.0f)), p->touch();
    else if (p->name == "conv1_conv.weight")
      p->value.fill_zero(), p->touch();
  Profile profile;
  Context context{.device = device, .profile = &profile};
  const Var image{Tensor::zeros(device, {1, 64, 64, 3}), -1, nullptr};
  const Var pooled = model.stem(context, image);
  REQUIRE(pooled.shape() == Shape{1, 16, 16, 64});
  const std::vector<float> values = pooled.value.to_vector();
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::size_t row = i / 64 / 16, column = i / 64 % 16;
    CHECK(values[i] == (row == 0 || column == 0 ? 0.0f : -1.0f));
  }
  profile = {};
  model.forward(context, image);
  std::vector<std::int64_t> sides;
  for (const Profile::ConvCall& call : profile.calls)
    if (call.geometry.kernel_h == 3) sides.push_back(call.x.h);
  CHECK(sides == std::vector<std::int64_t>{16, 16, 16, 8, 8, 8, 8, 4, 4, 4, 4, 4, 4, 2, 2, 2});

  const auto fresh = classify::make_classifier(device, "resnet50v2", 3, 1);
  const Tensor images = Tensor::from(device, {2, 64, 64, 3}, noise(24576, 5), Role::input);
  classify::train_step({.device = device}, *fresh, images, {0, 2}, 0);
  for (const Parameter* p : fresh->parameters()) {
    INFO(p->name);
    REQUIRE(p->grad);
    if (p->name.ends_with("conv.bias")) continue;  // a norm after it takes its gradient away
    double sum = 0;
    for (const float g : p->grad.to_vector()) sum += std::abs(g);
    CHECK(std::isfinite(sum));
    CHECK(sum > 0);
  }
}

TEST_CASE("weights: zip and legacy .pth, bare and own .safetensors; a head of other classes; what does not fit is listed") {
  frost::testing::TestDevice device;
  const auto source = classify::make_classifier(device, "resnet18", 5, 11);
  const Tensor image = Tensor::from(device, {1, 32, 32, 3}, noise(3072, 1), Role::input);
  const std::vector<float> logits = logits_of(device, *source, image);
  const StateDict state = state_of(*source);
  source->names = {"a", "b", "c", "d", "e"};

  const fs::path zip = folder().write("resnet18.pth", torch_bytes(state, false)),
                 legacy = folder().write("resnet18-old.pth", torch_bytes(state, true));
  const fs::path own = folder() / "own.safetensors", bare = folder() / "bare.safetensors";
  write_safetensors(own, state, source->metadata());
  write_safetensors(bare, state);
  for (const fs::path& file : {zip, legacy, own, bare}) {
    CAPTURE(file.string());
    const auto model = classify::load_classifier(device, file);
    CHECK(model->architecture() == "resnet18");
    CHECK(logits_of(device, *model, image) == logits);
    CHECK(model->names[1] == (file == own ? "b" : "1"));
  }

  // Two classes: everything but fc is taken over, and fc stays as it was made.
  const classify::ClassifierWeights weights = classify::read_classifier_weights(zip);
  const auto two = classify::make_classifier(device, "resnet18", 2, 12);
  const std::vector<float> fresh = two->head().weight.value.to_vector();
  const auto lines = classify::take_weights(*two, weights);
  CHECK(lines[0] == "fc: 5 classes in " + zip.string() + ", 2 here: a new fc.weight and fc.bias");
  CHECK(lines[1] == "Transferred 120/122 items from " + zip.string());
  CHECK(two->head().weight.value.to_vector() == fresh);
  CHECK(state_of(*two).at("layer4.1.conv2.weight") == state.at("layer4.1.conv2.weight"));
  // As many classes: the head is taken over, unless a new one is asked for.
  const auto same = classify::make_classifier(device, "resnet18", 5, 13);
  classify::take_weights(*same, weights, true);
  CHECK(state_of(*same).at("fc.weight") != state.at("fc.weight"));
  classify::take_weights(*same, weights);
  CHECK(state_of(*same).at("fc.weight") == state.at("fc.weight"));

  const auto refused = [&](const std::string& architecture, const StateDict& given) {
    const fs::path file = folder().write("bad.pth", torch_bytes(given, false));
    const auto model = classify::make_classifier(device, architecture, 5, {});
    return error_of([&] { classify::take_weights(*model, classify::read_classifier_weights(file)); });
  };
  CHECK(has(refused("resnet18", without(state, "layer1.0.bn1.bias")), "does not fit resnet18; missing: layer1.0.bn1.bias"));
  CHECK(refused("resnet18", without(state, "layer1.0.bn1.num_batches_tracked")).empty());  // torchvision's old files
  StateDict more = state;
  more.add("extra.weight", HostTensor::from_f32({1}, std::vector<float>{1}));
  CHECK(has(refused("resnet18", more), "unexpected: extra.weight"));
  CHECK(has(refused("resnet18", without(without(state, "fc.weight"), "fc.bias")), "missing: fc.weight, fc.bias"));
  const std::string deep = refused("resnet34", state);
  CHECK(has(deep, "missing: layer1.2.conv1.weight, layer1.2.bn1.weight"));
  CHECK(has(deep, " and 72 more"));
  CHECK(has(error_of([&] { classify::load_classifier(device, folder().write("junk.pth", "junk")); }), "junk.pth"));
}

TEST_CASE("weights: hostile names and shapes are errors that name the file") {
  frost::testing::TestDevice device;
  const fs::path file = folder() / "hostile.safetensors";
  const auto said = [&](const std::string& name, const std::vector<std::int64_t>& shape) {
    StateDict state;
    std::int64_t count = 1;
    for (const std::int64_t side : shape) count *= side;
    const std::vector<float> values(static_cast<std::size_t>(count));
    state.add("model.0.conv.weight", HostTensor::from_f32({16, 3, 6, 6}, std::vector<float>(1728)));
    state.add("layer1.0.conv1.weight", HostTensor::from_f32({1}, std::vector<float>{0}));
    state.add(name, HostTensor::from_f32(shape, values));
    write_safetensors(file, state);
    return error_of([&] { classify::load_classifier(device, file); });
  };
  for (const char* name :
       {"model.x.linear.weight", "model..linear.weight", "model.99999999999.linear.weight", "model.-1.linear.weight",
        "model.09.linear.weight", "model.9.more.linear.weight", "model.1000.linear.weight"}) {
    CAPTURE(name);
    CHECK(said(name, {2, 3}).starts_with(file.string() + ": "));
  }
  for (const char* name : {"model.9.linear.weight", "fc.weight"})
    for (const std::vector<std::int64_t>& shape :
         {std::vector<std::int64_t>{}, {3}, {0, 3}, {3, 0}, {2, 3, 1}, {1000001, 1}}) {
      CAPTURE(name);
      CAPTURE(shape.size());
      CHECK(said(name, shape) ==
            file.string() + ": " + name + " of shape " + shape_text(shape) + " is no classifier's last layer");
    }
}

TEST_CASE("weights: a YOLOv5 classifier's .pt: the average before the model, names in the order of their numbers") {
  const std::string six = raw(std::vector<float>{1, 2, 3, 4, 5, 6}), twelve = raw(std::vector<float>{7, 8, 9, 10, 11, 12});
  const auto module = [](const char* key, const std::string& names) {
    const auto weight = build::tensor(storage("FloatStorage", key, 6), 0, {2, 3}, {3, 1});
    const auto own = [](const Pairs& parameters, const Pairs& modules) {
      return Pairs{{"_parameters", ordered(parameters)}, {"_buffers", ordered({})}, {"_modules", ordered(modules)}};
    };
    const auto linear = object("torch.nn.modules.linear", "Linear", own({{"weight", weight}}, {}));
    const auto nine = object("models.common", "Classify", own({}, {{"linear", linear}}));
    const auto layers = object("torch.nn.modules.container", "Sequential", own({}, {{"9", nine}}));
    Pairs attributes = own({}, {{"model", layers}});
    attributes.emplace_back("names", names);
    return object("models.yolo", "ClassificationModel", attributes);
  };
  const std::string backwards = "}(" + integer(1) + text("rose") + integer(0) + text("daisy") + "u";
  const auto read = [&](const std::string& ema) {
    const std::string pickle = pickled(dict({{"model", module("0", list({text("a"), text("b")}))}, {"ema", ema}}));
    return classify::read_classifier_weights(folder().write("cls.pt", torch_zip(pickle, {{"0", six}, {"1", twelve}})));
  };
  const classify::ClassifierWeights averaged = read(module("1", backwards)), plain = read(none());
  CHECK(averaged.state.at("model.9.linear.weight").to_f32()[0] == 7);
  CHECK(averaged.names == std::vector<std::string>{"daisy", "rose"});
  CHECK(averaged.cutoff == 10);
  CHECK(plain.state.at("model.9.linear.weight").to_f32()[0] == 1);
  CHECK(plain.names == std::vector<std::string>{"a", "b"});
}

TEST_CASE("weights: a detector's backbone becomes a classifier's") {
  frost::testing::TestDevice device;
  DetectionModel detector(device, load_model_spec("yolov5n", 4), 3);
  YoloCheckpoint checkpoint;
  checkpoint.yaml_text = detector.spec().text;
  checkpoint.yaml_file = "yolov5n.yaml";
  checkpoint.names = detector.names;
  checkpoint.strides = detector.detect().strides;
  checkpoint.nc = 4;
  checkpoint.state = state_of(detector);
  const fs::path file = folder() / "detector.safetensors";
  save_yolo_checkpoint(file, checkpoint);
  const classify::ClassifierWeights weights = classify::read_classifier_weights(file);
  CHECK(weights.detector);
  CHECK(weights.architecture == "yolov5n-cls");
  for (const int cutoff : {10, 7}) {
    const auto model = classify::build_classifier(device, weights, 3, 5, cutoff);
    classify::take_weights(*model, weights);
    const std::string head = "model." + std::to_string(cutoff - 1);
    CHECK(model->head().name() == head + ".linear");
    CHECK(model->layers().count() == cutoff);
    const StateDict state = state_of(*model);
    CHECK(state.at("model.0.conv.weight") == checkpoint.state.at("model.0.conv.weight"));
    const std::string last = "model." + std::to_string(cutoff - 2);
    for (const auto& [name, tensor] : state)
      if (name.starts_with(last + ".")) CHECK(tensor == checkpoint.state.at(name));
    CHECK(state.at(head + ".conv.conv.weight").shape[0] == 1280);
    // ... and comes back from its own file.
    const fs::path own = folder() / "cls.safetensors";
    write_safetensors(own, state, model->metadata());
    const auto again = classify::load_classifier(device, own);
    const Tensor image = Tensor::from(device, {1, 64, 64, 3}, noise(12288, 1), Role::input);
    CHECK(logits_of(device, *again, image) == logits_of(device, *model, image));
  }
  CHECK(has(error_of([&] { classify::load_classifier(device, file); }), "a detector, not a classifier"));
  CHECK(has(error_of([&] { classify::build_classifier(device, weights, 3, 5, 14); }), "reads other layers"));
}

namespace {

/// What reading a classifier says after `change`; "" where it is read.
std::string said_of(const std::string& architecture, const std::string& package,
                    const std::function<void(PickledModel&)>& change,
                    const std::function<std::string(const std::string&)>& root = {}) {
  const std::unique_ptr<Backend> cpu = make_cpu_backend();
  Device device(make_meta_backend(*cpu, {}));
  const auto model = classify::make_classifier(device, architecture, 3, {});
  PickledModel pickle(*model, package);
  change(pickle);
  const fs::path file = folder().write("pickled.pt", pickle.file(root));
  std::string message = error_of([&] {
    const classify::ClassifierWeights weights = classify::read_classifier_weights(file);
    CHECK(weights.architecture == architecture);
    CHECK(classify::class_count(weights) == 3);
  });
  CHECK((message.empty() || message.starts_with(file.string() + ": ")));
  return message.substr(std::min(message.size(), file.string().size() + 2));
}

PickledNode plain(const std::string& package, const std::string& type) { return {package, type}; }

}  // namespace

TEST_CASE("a pickled ResNet that computes something else than its names say is refused") {
  const auto said = [](const std::function<void(PickledModel&)>& change) {
    return said_of("resnet18", "torchvision.models.resnet", change);
  };
  CHECK(said([](PickledModel&) {}) == "");
  CHECK(said([](PickledModel& m) {  // as DeepLab's backbones are
          m["layer4.0.conv1"].say("stride", integers({1, 1}));
          m["layer4.0.downsample.0"].say("stride", integers({1, 1}));
          m["layer4.0.conv2"].say("dilation", integers({2, 2}));
        })
            .starts_with("layer4.0.conv1: stride 1 is not what resnet18 has"));
  CHECK(said([](PickledModel& m) {
          m["layer1.0.relu"] = activation_node("nn.GELU()");
        }).starts_with("layer1.0.relu: activation 'nn.GELU()' is not one of"));
  CHECK(said([](PickledModel& m) {
          m["relu"] = activation_node("nn.SiLU()");
        }).starts_with("relu: act nn.SiLU() is not what resnet18 has"));
  CHECK(said([](PickledModel& m) {
          m["maxpool"].say("ceil_mode", boolean(true));
        }).starts_with("maxpool: ceil_mode True is not what"));
  CHECK(said([](PickledModel& m) {
          m["avgpool"].say("output_size", integers({2, 2}));
        }) == "avgpool: output_size 2, resnet18 gives 1");
  CHECK(said([](PickledModel& m) { m["bn1"].say("eps", real(1e-3)); }).starts_with("bn1: eps 0.001 is not what"));
  CHECK(said([](PickledModel& m) {
          m["layer2.1"].children.push_back("se");
          m.nodes["layer2.1.se"] = plain("my.attention", "SE");
        }) == "layer2.1.se: unknown module my.attention.SE");
  CHECK(said([](PickledModel& m) { m["layer2.1"].package = "my.blocks"; }) ==
        "layer2.1: unknown module my.blocks.BasicBlock");
  CHECK(said([](PickledModel& m) { m[""].package = "my"; }) == "unknown module my.ResNet");
  CHECK(said([](PickledModel& m) {
          m["layer2.1"] = {"torch.nn.modules.container", "Sequential", {}, {}, {}, m["layer2.1"].children};
        }) == "layer2.1: a torch.nn.modules.container.Sequential, resnet18 asks for BasicBlock");
  CHECK(said([](PickledModel& m) { std::erase(m["layer3.0"].children, "relu"); }) ==
        "layer3.0.relu: the checkpoint's modules lack it");
  CHECK(said([](PickledModel& m) { std::swap(m["layer3"].children[0], m["layer3"].children[1]); }) ==
        "layer3.0: runs after layer3.1, but resnet18 asks for it before that");
}

TEST_CASE("a pickled VGG, and classifiers in a wrapper") {
  const auto said = [](const std::function<void(PickledModel&)>& change) {
    const std::unique_ptr<Backend> cpu = make_cpu_backend();
    Device device(make_meta_backend(*cpu, {}));
    const auto model = classify::make_classifier(device, "vgg16_bn", 3, {});
    PickledModel pickle(*model, "torchvision.models.vgg");
    pickle.drop_tensors();
    change(pickle);
    const TorchFile file(folder().write("vgg.pt", pickle.file()));
    std::string text;
    const std::string refused = error_of([&] {
      for (const auto& [path, attributes] :
           compare_modules(*model, pickled_modules(file, file.weights()), {}, "", "vgg16_bn"))
        for (const auto& [attribute, value] : attributes) text += path + ": " + attribute + " " + value;
    });
    return text + refused;
  };
  CHECK(said([](PickledModel&) {}) == "");
  CHECK(said([](PickledModel& m) { m["features.6"].say("kernel_size", integer(3)); }) == "features.6: kernel_size 3");
  CHECK(said([](PickledModel& m) { m["features.2"] = activation_node("nn.LeakyReLU(0.1)"); }) ==
        "features.2: act nn.LeakyReLU(0.1)");
  CHECK(has(said([](PickledModel& m) { m["classifier.1"] = plain("torch.nn.modules.activation", "Tanh"); }),
            "classifier.1: activation 'nn.Tanh()' is not one of"));
  CHECK(has(said([](PickledModel& m) { std::swap(m["features"].children[0], m["features"].children[3]); }),
            "runs after features."));
  const auto wrapped = [](const std::string& network) {
    return dict({{"model", object("torch.nn.parallel.data_parallel", "DataParallel",
                                  {{"_modules", ordered({{"module", network}})}})}});
  };
  CHECK(said_of(
            "resnet18", "torchvision.models.resnet", [](PickledModel&) {}, wrapped) == "");
  CHECK(said_of(
            "resnet18", "torchvision.models.resnet",
            [](PickledModel& m) {
              m["conv1"].say("padding", integers({0, 0}));
            },
            wrapped)
            .starts_with("conv1: padding 0 is not what resnet18 has"));
}

TEST_CASE("a YOLOv5 classifier's modules are compared, and files of the ultralytics package are named") {
  const auto said = [](const std::string& package, const std::function<void(PickledModel&)>& change) {
    return said_of("yolov5n-cls", package, change);
  };
  CHECK(said("models.common", [](PickledModel&) {}) == "");
  CHECK(said("models.common", [](PickledModel& m) {
          m["model.0.conv"].say("stride", integers({1, 1}));
        }).starts_with("model.0.conv: stride 1 is not what yolov5n-cls has"));
  CHECK(said("models.common", [](PickledModel& m) {
          m["model.2.cv1.act"] = activation_node("nn.ReLU()");
        }).starts_with("model.2.cv1: act nn.ReLU() is not what"));
  CHECK(said("models.common", [](PickledModel& m) {
          m["model.9.conv.act"] = activation_node("nn.Mish()");
        }).starts_with("model.9.conv: act nn.Mish() is not what"));
  CHECK(said("models.common", [](PickledModel& m) {
          m["model.4"].children.push_back("att");
          m.nodes["model.4.att"] = plain("torch.nn.modules.activation", "Softmax");
        }) == "model.4.att: a torch.nn.modules.activation.Softmax that yolov5n-cls does not ask for");
  CHECK(said("models.common", [](PickledModel& m) { m["model.9.pool"].say("output_size", integer(7)); }) ==
        "model.9.pool: output_size 7, yolov5n-cls gives 1");
  CHECK(said("models.common", [](PickledModel& m) {
          m["model.2.m.0"].say("add", boolean(false));
        }).starts_with("model.2.m.0: add False is not what"));
  CHECK(said("ultralytics.nn.modules", [](PickledModel&) {
        }).starts_with("written by the ultralytics package (ultralytics.nn.modules.ClassificationModel)"));
}

TEST_CASE("torchvision's own file: names, loading, logits") {
  const fs::path script = folder() / "write.py", weights = folder() / "tv.pth", numbers = folder() / "tv.txt";
  std::ofstream(script) << "import sys, torch, torchvision\n"
                           "torch.manual_seed(0)\n"
                           "for name, legacy in (('resnet18', False), ('resnet50', True)):\n"
                           "    m = getattr(torchvision.models, name)(num_classes=7)\n"
                           "    for n, b in m.named_buffers():\n"
                           "        if n.endswith('running_mean'): b.uniform_(-0.1, 0.1)\n"
                           "        if n.endswith('running_var'): b.uniform_(0.5, 1.5)\n"
                           "    torch.save(m.state_dict(), sys.argv[1] + name, _use_new_zipfile_serialization=not legacy)\n"
                           "    m.eval()\n"
                           "    x = (torch.arange(3 * 64 * 64).float() * 0.37).sin().reshape(1, 3, 64, 64)\n"
                           "    with torch.no_grad(): y = m(x)\n"
                           "    open(sys.argv[2] + name, 'w').write(' '.join('%.9g' % v for v in y.flatten().tolist()))\n";
  std::string python;
  for (const char* candidate : {"python3", "/usr/bin/python3"})
    if (python.empty() && std::system((candidate + std::string(" -c 'import torchvision' > /dev/null 2>&1")).c_str()) == 0)
      python = candidate;
  if (python.empty()) {
    MESSAGE("SKIPPED: needs python3 with torchvision (Debian: python3-torchvision)");
    return;
  }
  REQUIRE(std::system((python + " " + script.string() + " " + weights.string() + " " + numbers.string()).c_str()) == 0);
  std::vector<float> pixels(3 * 64 * 64);
  for (std::size_t i = 0; i < pixels.size(); ++i) pixels[i] = std::sin(static_cast<float>(i) * 0.37f);
  frost::testing::TestDevice device;
  const Tensor image = Tensor::from(device, {1, 64, 64, 3}, golden::nhwc(pixels, 1, 3, 64, 64), Role::input);
  for (const char* name : {"resnet18", "resnet50"}) {
    const auto model = classify::load_classifier(device, weights.string() + name);
    CHECK(model->architecture() == name);
    std::vector<float> expected;
    std::ifstream in(numbers.string() + name);
    for (float v; in >> v;) expected.push_back(v);
    CHECK(golden::relative_error(logits_of(device, *model, image), expected) < 1e-4);
  }
}

TEST_CASE("views: torchvision's and YOLOv5's middles in closed form; random views repeat with their seed") {
  // A horizontal ramp of step 2: linear filters keep it linear away from the rim.
  Image ramp(64, 128);
  for (int y = 0; y < 64; ++y)
    for (int x = 0; x < 128; ++x) std::fill_n(ramp.at(y, x), 3, static_cast<std::uint8_t>(2 * x));
  // Shorter side 64 to 37, longer to 74, the middle 32: column j shows (j + 21 + 0.5) * 128 / 74 - 0.5.
  const Image middle = classify::centre_view(ramp, 32, false);
  REQUIRE(middle.width == 32);
  for (int j = 0; j < 32; ++j) CHECK(std::abs(middle.at(7, j)[1] - 2 * ((j + 21.5) * 128 / 74 - 0.5)) <= 1);
  // The middle square, columns 32 to 95, to 32: column j shows 32 + 2 j + 0.5.
  const Image square = classify::centre_view(ramp, 32, true);
  for (int j = 0; j < 32; ++j) CHECK(std::abs(square.at(7, j)[1] - 2 * (32 + 2 * j + 0.5)) <= 1);
  const Image tall = classify::centre_view(Image(300, 40, 77), 64, false);
  CHECK(tall.height == 64);
  CHECK(tall.at(63, 63)[2] == 77);

  Rng one(1, 2, 3), again(1, 2, 3), other(1, 2, 4);
  const Image a = classify::random_view(ramp, 48, one);
  CHECK(a.pixels == classify::random_view(ramp, 48, again).pixels);
  CHECK(a.pixels != classify::random_view(ramp, 48, other).pixels);
  for (std::uint64_t i = 0; i < 50; ++i) {  // thin images, too, have parts
    Rng rng(9, 0, i);
    CHECK(classify::random_view(Image(8, 200, 9), 16, rng).width == 16);
  }
}

TEST_CASE("folders: sorted classes, only pictures, and what is wrong with them") {
  const fs::path data = folder() / "data";
  testing::write_stripes(data, 0, 3, 2);
  std::ofstream(data / "train" / "stripes0" / "notes.txt") << "not a picture";
  const classify::DataSplits splits = classify::find_splits(data);
  CHECK(splits.val_name == "val");
  CHECK(splits.train.classes == std::vector<std::string>{"stripes0", "stripes1", "stripes2"});
  CHECK(splits.train.size() == 9);
  CHECK(splits.val.items.back().label == 2);
  std::vector<std::uint8_t> first;
  for (const int threads : {0, 3}) {
    auto loader = classify::make_image_loader(std::make_shared<classify::ImageFolder>(splits.train), {.side = 32,
                                                                                                      .batch_size = 4,
                                                                                                      .augment = true,
                                                                                                      .shuffle = true,
                                                                                                      .cache = threads > 0,
                                                                                                      .seed = 5,
                                                                                                      .threads = threads});
    std::vector<std::uint8_t> bytes;
    for (const int epoch : {0, 1}) {
      loader->start(epoch);
      while (const classify::ImageBatch* b = loader->next()) {
        bytes.insert(bytes.end(), b->pixels.begin(),
                     b->pixels.begin() + static_cast<std::ptrdiff_t>(static_cast<std::size_t>(b->n) * b->image_bytes()));
        for (const std::int64_t label : b->labels) bytes.push_back(static_cast<std::uint8_t>(label));
      }
    }
    if (first.empty()) first = bytes;
    CHECK(bytes == first);
  }
  const fs::path thin = data / "thin.png";
  write_png(thin, Image(2, 129));
  CHECK(has(error_of([&] { classify::read_image(thin); }), thin.string() + ": 129x2 pixels: more than 64 times"));
  write_png(thin, Image(128, 2));
  CHECK(classify::read_image(thin).height == 128);
  write_png(data / "val" / "zebra" / "a.png", Image(12, 12));
  CHECK(has(error_of([&] { classify::find_splits(data); }), "only one has 'zebra'"));
  CHECK(has(error_of([&] { classify::find_splits(folder() / "nowhere"); }), "nowhere: not found"));
  fs::create_directories(folder() / "hollow" / "train" / "a");
  fs::create_directories(folder() / "hollow" / "val" / "a");
  CHECK(has(error_of([&] { classify::find_splits(folder() / "hollow"); }), "no pictures"));
}

TEST_CASE("folders: hidden, packed and empty folders are no classes, and what they hold is not read") {
  const fs::path data = folder() / "clutter";
  testing::write_stripes(data, 0, 2, 3);
  const Image image(12, 12, 90);
  for (const std::string name : {".ipynb_checkpoints/a.png", "__MACOSX/stripes0/._a.png", ".git/a.png",
                                 "stripes0/.ipynb_checkpoints/a-checkpoint.png", "stripes0/._a.png",
                                 "stripes1/__MACOSX/a.png", "stripes1/deep/.hidden/a.png"})
    for (const std::string split : {"train", "val"}) write_png(data / split / name, image);
  write_png(data / "train" / "stripes1" / "deep" / "a.png", image);  // this one counts
  fs::create_directories(data / "train" / "nothing");
  fs::create_directories(data / "train" / "also nothing" / "deep");
  std::ofstream(data / "train" / "also nothing" / "Thumbs.db") << "x";
  classify::DataSplits splits = classify::find_splits(data);
  const std::vector<std::string> two{"stripes0", "stripes1"};
  CHECK(splits.train.classes == two);
  CHECK(splits.val.classes == two);
  CHECK(splits.train.size() == 2 * 4 + 1);
  CHECK(splits.train.notes == std::vector{"WARNING ⚠️ " + (data / "train").string() +
                                          ": folders without pictures are no classes: also nothing, nothing"});
  CHECK(splits.val.notes.empty());
  CHECK(splits.train.corrupt.empty());
  // A class of train keeps its number where validation has no picture of it.
  fs::remove_all(data / "val" / "stripes0");
  CHECK(has(error_of([&] { classify::find_splits(data); }), "only one has 'stripes0'"));
  fs::create_directories(data / "val" / "stripes0");
  splits = classify::find_splits(data);
  CHECK(splits.val.classes == two);
  CHECK(splits.val.items.front().label == 1);
  CHECK(splits.val.notes == std::vector{"WARNING ⚠️ " + (data / "val").string() + ": no pictures of class stripes0"});
  CHECK(classify::find_val_split(data, {}).val.classes == std::vector<std::string>{"stripes1"});
}

TEST_CASE("folders: classes and what is below may be links, loops are not followed") {
  const fs::path data = folder() / "links";
  testing::write_stripes(data, 0, 2, 3);
  const auto size = classify::find_splits(data).train.size();
  fs::create_directory_symlink(".", data / "train" / "self");  // no class
  fs::create_directory_symlink("..", data / "train" / "up");
  fs::create_directory_symlink("..", data / "train" / "stripes0" / "up");
  fs::create_directory_symlink("../..", data / "train" / "stripes1" / "outer");
  fs::create_directory_symlink(".", data / "train" / "stripes1" / "self");
  CHECK(classify::find_splits(data).train.size() == size);
  write_png(data / "disk" / "deep" / "a.png", Image(12, 12, 90));
  fs::create_directory_symlink("../deep", data / "disk" / "deep" / "again");
  for (const std::string split : {"train", "val"}) fs::create_directory_symlink("../disk", data / split / "zebra");
  const classify::DataSplits splits = classify::find_splits(data);
  CHECK(splits.train.classes == std::vector<std::string>{"stripes0", "stripes1", "zebra"});
  CHECK(splits.train.size() == size + 1);
  CHECK(splits.train.items.back().path == data / "train" / "zebra" / "deep" / "a.png");
  CHECK(splits.val.classes == splits.train.classes);
}

TEST_CASE("accuracy: ranks, averages over images, confusion, tables") {
  const std::vector<float> values{0.1f, 0.5f, 0.5f, -1, 3, 0.2f, 0.3f};
  CHECK(classify::top_classes(values.data(), 7) == std::vector<int>{4, 1, 2, 6, 5});
  CHECK(classify::top_classes(values.data(), 2) == std::vector<int>{1, 0});
  classify::Accuracy a;
  a.classes = {{.images = 3, .top1 = 1, .top5 = 2}, {.images = 1, .top1 = 1, .top5 = 1}};
  a.confusion = {1, 2, 0, 1};
  CHECK(a.top1() == 0.5);
  CHECK(a.top5() == 0.75);
  CHECK(classify::accuracy_table(a, {"ant", "bee"}) ==
        "                   Class      Images    top1_acc    top5_acc\n"
        "                     all           4         0.5        0.75\n"
        "                     ant           3       0.333       0.667\n"
        "                     bee           1           1           1\n");
  classify::write_confusion(folder() / "confusion.csv", a, {"ant, red", "bee"});
  CHECK(contents(folder() / "confusion.csv") == "true,\"ant, red\",bee\n\"ant, red\",1,2\nbee,0,1\n");
}

TEST_CASE(
    "cross entropy of docs/spec/classify.md section 1.5; the classifier's schedule has no warm-up, no lag and no "
    "accumulation") {
  frost::testing::TestDevice device;
  const Tensor logits = Tensor::from(device, {1, 1, 1, 3}, {1.2f, -0.7f, 0.3f});
  CHECK(classify::cross_entropy(device, logits, {2}, 0) == doctest::Approx(1.3422073).epsilon(1e-6));
  CHECK(classify::cross_entropy(device, logits, {2}, 0.1f) == doctest::Approx(1.3455406).epsilon(1e-6));
  Schedule schedule({.lr0 = 0.001,
                     .lrf = 0.01,
                     .momentum = 0.9,
                     .warmup_epochs = 0,
                     .lag = false,
                     .epochs = 10,
                     .batches_per_epoch = 4,
                     .batch_size = 64,
                     .nominal_batch = 64,
                     .minimum_warmup = 0});
  for (std::int64_t epoch = 0; epoch < 10; ++epoch)
    for (std::int64_t batch = 0; batch < 4; ++batch) {
      const Schedule::Step step = schedule.at(epoch, batch);
      const double expected = 0.001 * ((1 - static_cast<double>(epoch) / 10) * 0.99 + 0.01);
      for (const double lr : step.lr) CHECK(lr == doctest::Approx(expected));
      CHECK(step.momentum == 0.9);
      CHECK(step.accumulate == 1);
    }
}

TEST_CASE("transfer: pretrained on one set, a new head on another; only fc.* is in the optimizer, the rest saves nothing") {
  // Noise as strong as the stripes: channels that were never taught to see them do not. (With clean stripes and many of them
  // random channels are enough: 60 of 60.)
  frost::testing::TestDevice device;
  std::vector<std::int64_t> labels;
  const auto lesson = [&](int family, std::uint64_t first, std::int64_t n) {
    std::vector<std::uint8_t> rgb;
    labels.clear();
    for (std::int64_t i = 0; i < n; ++i) {
      const int label = static_cast<int>(i) % 3;
      labels.push_back(label);
      const std::uint64_t seed = first + static_cast<std::uint64_t>(i);
      const Image image = testing::stripes(family, label, seed, 32);
      Rng rng(5, static_cast<std::uint64_t>(family), seed);
      for (const std::uint8_t value : image.pixels)
        rgb.push_back(static_cast<std::uint8_t>(std::clamp(value + rng.uniform(-60, 60), 0.0, 255.0)));
    }
    return classify::network_input(device, rgb, {n, 32, 32, 3}, {device, {}}, DType::f32);
  };
  const auto many = [&](int step) { return lesson(0, static_cast<std::uint64_t>(step) * 24, 24); };
  const auto six = [&](int) { return lesson(1, 0, 6); };  // two of each class, always the same
  const auto train = [&](classify::Classifier& model, ParameterArena& arena, const auto& batch, int steps, float lr) {
    Optimizer optimizer(arena, device, OptimizerKind::adam);
    for (ParameterGroup& group : arena.groups()) group.lr = lr;
    float loss = 0;
    for (int step = 0; step < steps; ++step) {
      const Tensor images = batch(step);
      loss = classify::train_step({.device = device}, model, images, labels, 0);
      optimizer.step(0.9f);
    }
    return loss;
  };
  const auto pretrained = classify::make_classifier(device, "resnet18", 3, 1);
  {
    ParameterArena arena(device, *pretrained, 0, false);
    CHECK(train(*pretrained, arena, many, 12, 0.001f) < 0.3);
  }
  classify::ClassifierWeights weights{.file = "pretrained",
                                      .architecture = "resnet18",
                                      .state = state_of(*pretrained),
                                      .names = {},
                                      .yaml_text = {},
                                      .yaml_file = {}};
  const auto freeze_all_but_the_head = [](classify::Classifier& model) {
    frost::freeze(model, model.layers(), {"!" + model.head().name()});
  };
  const auto right_on_unseen = [&](classify::Classifier& model) {
    const Tensor unseen = lesson(1, 1000000, 60);
    const std::vector<float> logits = logits_of(device, model, unseen);
    std::int64_t right = 0;
    for (std::size_t i = 0; i < labels.size(); ++i) right += classify::top_classes(&logits[i * 3], 3, 1)[0] == labels[i];
    return right;
  };
  const auto model = classify::make_classifier(device, "resnet18", 3, 2);
  std::int64_t control = 0;  // the same lessons on a backbone that has learnt nothing
  {
    const auto untaught = classify::make_classifier(device, "resnet18", 3, 2);
    freeze_all_but_the_head(*untaught);
    ParameterArena arena(device, *untaught, 0, false);
    train(*untaught, arena, six, 30, 0.01f);
    control = right_on_unseen(*untaught);
  }
  classify::take_weights(*model, weights, true);
  freeze_all_but_the_head(*model);
  ParameterArena arena(device, *model, 0, false);
  std::vector<std::string> trained;
  for (const ParameterGroup& group : arena.groups())
    for (const Parameter* p : group.members) trained.push_back(p->name);
  CHECK(trained == std::vector<std::string>{"fc.bias", "fc.weight"});
  device.ledger().reset_peaks();
  const std::int64_t gradients_before = device.ledger().of(Role::gradient).current;
  CHECK(train(*model, arena, six, 30, 0.01f) < 0.5);
  CHECK(device.ledger().of(Role::saved_activation).peak == 6 * 512 * 4);  // what fc reads
  CHECK(device.ledger().of(Role::gradient).peak == gradients_before);     // the arena's: no other gradient was made
  const StateDict after = state_of(*model);
  for (const auto& [name, tensor] : weights.state)  // frozen to the bit, running statistics too
    if (!name.starts_with("fc.")) CHECK(tensor == after.at(name));
  const std::int64_t right = right_on_unseen(*model);
  CAPTURE(control);
  CHECK(right >= 48);            // 0.8; chance is a third
  CHECK(right >= control + 12);  // half of what five draws of the six pictures showed: 52 to 55 against 28 to 33
}

TEST_CASE("bf16: a classifier's loss falls as it does in f32") {
  if (!frost::testing::make_device_backend()->supports(DType::bf16)) {
    MESSAGE("SKIPPED: this device has no bf16 instructions");
    return;
  }
  const auto losses = [](DType compute) {
    frost::testing::TestDevice device;
    const auto model = classify::make_classifier(device, "resnet18", 3, 1);
    ParameterArena arena(device, *model, 0, false);
    Optimizer optimizer(arena, device, OptimizerKind::adam);
    for (ParameterGroup& group : arena.groups()) group.lr = 0.001f;
    std::vector<float> found;
    for (std::uint64_t step = 0; step < 12; ++step) {
      std::vector<std::uint8_t> rgb;
      std::vector<std::int64_t> labels;
      for (std::uint64_t i = 0; i < 24; ++i) {
        labels.push_back(static_cast<std::int64_t>(i % 3));
        const Image image = testing::stripes(0, static_cast<int>(i % 3), step * 24 + i, 32);
        rgb.insert(rgb.end(), image.pixels.begin(), image.pixels.end());
      }
      const Tensor images = classify::network_input(device, rgb, {24, 32, 32, 3}, {device, {}}, compute);
      found.push_back(classify::train_step({.device = device, .compute = compute}, *model, images, labels, 0));
      optimizer.step(0.9f);
    }
    return found;
  };
  const std::vector<float> f32 = losses(DType::f32), bf16 = losses(DType::bf16);
  CAPTURE(f32);
  CAPTURE(bf16);
  // The first step differs by rounding alone (8 bits of mantissa, some 20 layers); later ones by what training makes of it.
  CHECK(bf16[0] == doctest::Approx(f32[0]).epsilon(0.02));
  CHECK(f32.back() < 0.3f);
  CHECK(bf16.back() < 0.3f);
}
