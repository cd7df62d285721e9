#include "models/yolo/training/hyp.h"

#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "kernels/error.h"
#include "models/yolo/training/loss.h"

using namespace frost;
using namespace frost::yolo;

namespace {

std::string message_of(const std::string& text) {
  try {
    parse_hyp(text, "my.yaml");
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}
std::string without(std::string text, const std::string& key) {
  const auto at = text.find("\n" + key + ":") + 1;
  return text.erase(at, text.find('\n', at) + 1 - at);
}
std::string defaults() { return hyp_yaml(load_hyp("scratch-low")); }

}  // namespace

TEST_CASE("hyp: the built-in files hold the table of docs/spec/loss.md section 9") {
  const Hyp low = load_hyp("hyp.scratch-low.yaml");
  CHECK(defaults() ==
        "lr0: 0.01\nlrf: 0.01\nmomentum: 0.937\nweight_decay: 0.0005\nwarmup_epochs: 3.0\nwarmup_momentum: 0.8\n"
        "warmup_bias_lr: 0.1\nbox: 0.05\ncls: 0.5\ncls_pw: 1.0\nobj: 1.0\nobj_pw: 1.0\niou_t: 0.2\nanchor_t: 4.0\n"
        "fl_gamma: 0.0\nhsv_h: 0.015\nhsv_s: 0.7\nhsv_v: 0.4\ndegrees: 0.0\ntranslate: 0.1\nscale: 0.5\nshear: 0.0\n"
        "perspective: 0.0\nflipud: 0.0\nfliplr: 0.5\nmosaic: 1.0\nmixup: 0.0\ncopy_paste: 0.0\n");
  // med and high differ from low, and from each other, in these alone.
  const auto changed = [&](const Hyp& hyp) {
    std::string keys;
    for (const auto& [key, value] : hyp.items())
      if (value != low.get(key)) keys += key + " ";
    return keys;
  };
  const Hyp med = load_hyp("scratch-med"), high = load_hyp("scratch-high");
  CHECK(changed(med) == "lrf cls obj scale mixup ");
  CHECK(changed(high) == "lrf cls obj scale mixup copy_paste ");
  for (const Hyp& hyp : {med, high}) {
    CHECK(hyp.lrf == 0.1);
    CHECK(hyp.cls == 0.3);
    CHECK(hyp.obj == 0.7);
    CHECK(hyp.scale == 0.9);
    CHECK(hyp.mixup == 0.1);
  }
  CHECK(high.copy_paste == 0.1);

  const Hyp voc = load_hyp("VOC"), objects = load_hyp("Objects365");
  CHECK(voc.items().back() == std::pair<std::string, double>{"anchors", 3.412});  // last here, ...
  CHECK(objects.items()[14] == std::pair<std::string, double>{"anchors", 3.2});   // ... between anchor_t and fl_gamma there
  CHECK(objects.items()[15].first == "fl_gamma");
  CHECK(voc.items().size() == 29);
  CHECK(objects.items().size() == 29);
  CHECK(voc.lr0 == 0.00334);
  CHECK(voc.mosaic == 0.85834);
  CHECK(voc.obj_pw == 0.67198);
  CHECK(objects.lr0 == 0.00258);
  CHECK(objects.warmup_bias_lr == 0.0711);
  CHECK(objects.cls_pw == 0.825);
}

TEST_CASE("hyp: look-up takes a file first, then a built-in name, else lists the names") {
  for (const char* name : {"scratch-high", "hyp.scratch-high.yaml", "data/hyps/hyp.scratch-high.yaml"})
    CHECK(load_hyp(name).copy_paste == 0.1);

  const auto folder = std::filesystem::temp_directory_path() / "frost_hyp_test";
  std::filesystem::create_directories(folder);
  const auto file = folder / "hyp.scratch-low.yaml";
  Hyp mine = load_hyp("scratch-low");
  mine.set("lr0", 1e-5);
  write_hyp(file, mine);
  CHECK(load_hyp(file.string()).lr0 == 1e-5);
  CHECK(load_hyp(file.string()).items() == mine.items());
  CHECK_THROWS_WITH_AS(write_hyp(file / "hyp.yaml", mine), doctest::Contains("cannot write"), Error);  // a file, no folder
  std::filesystem::remove_all(folder);

  CHECK_THROWS_WITH_AS(
      load_hyp("hyp.nope.yaml"),
      "hyp.nope.yaml: no such file, and no built-in hyperparameters of that name (hyp.Objects365.yaml, "
      "hyp.VOC.yaml, hyp.no-augmentation.yaml, hyp.scratch-high.yaml, hyp.scratch-low.yaml, hyp.scratch-med.yaml, "
      "hyp.short.yaml)",
      Error);
}

TEST_CASE("hyp: mistakes in a file are named") {
  CHECK(message_of(defaults()) == "no error");
  CHECK(message_of(without(defaults(), "copy_paste")) == "my.yaml: key 'copy_paste' is missing");
  CHECK(message_of(defaults() + "lr0: 0.1\n") == "my.yaml: key 'lr0' stands there twice, in lines 1 and 29");
  CHECK(message_of(without(defaults(), "box") + "box: wide\n") == "my.yaml: 'box' is 'wide', a finite number expected");
  CHECK(message_of(without(defaults(), "box") + "box: .nan\n") == "my.yaml: 'box' is '.nan', a finite number expected");
  CHECK(message_of(without(defaults(), "box") + "box:\n") ==
        "my.yaml: 'box' is empty, a list or a map, a finite number expected");
  CHECK(message_of("") == "my.yaml: the file is empty");
  CHECK(message_of("#") == "my.yaml: lines 'key: number' expected");
  CHECK(message_of("- 1\n") == "my.yaml: lines 'key: number' expected");
  CHECK(message_of("a: [1\n").starts_with("my.yaml:2: not valid YAML: "));

  std::vector<std::string> warnings;
  const Hyp hyp = parse_hyp("giou: 0.05\n" + defaults(), "old.yaml", &warnings);
  CHECK(warnings == std::vector<std::string>{"old.yaml: unknown hyperparameter 'giou' is ignored"});
  CHECK(hyp_yaml(hyp) == defaults());
  Hyp changed = hyp;
  CHECK_THROWS_WITH_AS(changed.set("giou", 1), "hyperparameters: no key 'giou'", Error);
}

TEST_CASE("hyp: each value has a range in which it makes sense") {
  const auto with = [](const std::string& key, const std::string& value) {
    return message_of(key + ": " + value + "\n" +
                      (key == "anchors" || key == "label_smoothing" ? defaults() : without("\n" + defaults(), key)));
  };
  CHECK(with("momentum", "-1") == "my.yaml:1: 'momentum' is -1, it must be at least 0 and less than 1");
  CHECK(with("mosaic", "-5") == "my.yaml:1: 'mosaic' is -5, it must be from 0 to 1");
  CHECK(with("lr0", "0") == "my.yaml:1: 'lr0' is 0, it must be more than 0");
  CHECK(with("box", "-1e30") == "my.yaml:1: 'box' is -1e30, it must be at least 0");
  CHECK(with("anchor_t", "0") == "my.yaml:1: 'anchor_t' is 0, it must be more than 1");
  CHECK(with("degrees", "181") == "my.yaml:1: 'degrees' is 181, it must be from -180 to 180");
  struct Edge {
    const char *key, *low, *high;  // the last values that are taken
    const char *below, *above;     // and the first ones that are not; empty: there is none
  };
  for (const auto& [key, low, high, below, above] : {
           Edge{"lr0", "1e-9", "1e9", "-0.01", ""},
           Edge{"lrf", "0", "1", "-0.1", ""},
           Edge{"momentum", "0", "0.9999", "-0.01", "1"},
           Edge{"weight_decay", "0", "1", "-1e-9", ""},
           Edge{"warmup_epochs", "0", "50", "-1", ""},
           Edge{"warmup_momentum", "0", "0.99", "-0.1", "1.0"},
           Edge{"warmup_bias_lr", "0", "1", "-0.1", ""},
           Edge{"cls", "0", "100", "-0.5", ""},
           Edge{"cls_pw", "0", "10", "-1", ""},
           Edge{"obj", "0", "100", "-0.5", ""},
           Edge{"obj_pw", "0", "10", "-1", ""},
           Edge{"iou_t", "0", "1", "-0.1", "1.1"},
           Edge{"anchor_t", "1.001", "100", "1", ""},
           Edge{"anchors", "0", "10", "-1", "1e6"},
           Edge{"fl_gamma", "0", "10", "-1e9", "10.5"},
           Edge{"hsv_h", "0", "1", "-0.1", "1.1"},
           Edge{"degrees", "-180", "180", "-180.5", "400"},
           Edge{"translate", "0", "1", "-0.1", "5"},
           Edge{"scale", "0", "1", "-0.1", "1.5"},
           Edge{"shear", "-90", "90", "-91", "91"},
           Edge{"perspective", "0", "1", "-0.001", "2"},
           Edge{"fliplr", "0", "1", "-0.1", "1.0001"},
           Edge{"mixup", "0", "1", "-0.1", "1e9"},
           Edge{"copy_paste", "0", "1", "-0.1", "2"},
           Edge{"label_smoothing", "0", "0.99", "-0.1", "1e9"},
       }) {
    CAPTURE(key);
    CHECK(with(key, low) == "no error");
    CHECK(with(key, high) == "no error");
    for (const std::string wrong : {below, above})
      if (!wrong.empty())
        CHECK(with(key, wrong).starts_with(std::string("my.yaml:1: '") + key + "' is " + wrong + ", it must be "));
  }
}

TEST_CASE("hyp: written in file order, every double survives") {
  Hyp hyp = parse_hyp("mixup: 0.123456789012345\n" + without(defaults(), "mixup"), "my.yaml");
  hyp.set("anchors", 3);
  hyp.set("lr0", 1e-5);
  hyp.set("lrf", 0.1 + 0.2);
  const std::string text = hyp_yaml(hyp);
  CHECK(text.find("mixup: 0.123456789012345\nlr0: 1.0e-05\nlrf: 0.30000000000000004\nmomentum: 0.937\n") == 0);
  CHECK(text.find("copy_paste: 0.0\nanchors: 3.0\n") != std::string::npos);
  CHECK(parse_hyp(text, "again").items() == hyp.items());
}

TEST_CASE("loss gains: rescaled to levels, classes and image size (docs/spec/loss.md section 7)") {
  const Hyp hyp = load_hyp("scratch-low");
  const auto same = scaled_gains(hyp, 3, 80, 640, 0);
  CHECK(same.box == 0.05f);
  CHECK(same.obj == 1.0f);
  CHECK(same.cls == 0.5f);
  CHECK(same.anchor_t == 4.0f);
  const auto golden = scaled_gains(hyp, 3, 3, 128, 0.1f);  // the fact `hyp` of the loss files
  CHECK(golden.box == 0.05f);
  CHECK(golden.obj == doctest::Approx(0.04).epsilon(1e-6));
  CHECK(golden.cls == doctest::Approx(0.01875).epsilon(1e-6));
  CHECK(golden.label_smoothing == 0.1f);
  const auto p6 = scaled_gains(load_hyp("VOC"), 4, 20, 1280, 0);
  CHECK(p6.box == doctest::Approx(0.02 * 0.75).epsilon(1e-6));
  CHECK(p6.obj == doctest::Approx(0.51728 * 4 * 0.75).epsilon(1e-6));
  CHECK(p6.cls == doctest::Approx(0.21638 * 0.25 * 0.75).epsilon(1e-6));
  CHECK(p6.cls_pw == 0.5f);
  CHECK(p6.obj_pw == doctest::Approx(0.67198).epsilon(1e-6));
  CHECK(rescaled(hyp, 3, 3, 128, 0.1f).items().back().first == "label_smoothing");

  CHECK(default_balance(3) == std::vector<float>{4, 1, 0.4f});
  CHECK(default_balance(4) == std::vector<float>{4, 1, 0.25f, 0.06f});
  CHECK(default_balance(2) == std::vector<float>{4, 1});
  CHECK_THROWS_AS(default_balance(6), Error);
}
