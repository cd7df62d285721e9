#include <doctest/doctest.h>

#include <nlohmann/json.hpp>
#include <regex>

#include "tests/models/stripes.h"
#include "tests/tools/world.h"

// yolo-explain and yolo-train --dry-run from outside: the files, the page in a browser, and that a dry run says what the run
// then takes.
using namespace frost::tests;
using Json = nlohmann::json;

namespace {

const std::string kExplain = kBin + "yolo-explain --cfg yolov5n.yaml --imgsz 64 --batch-size 2 ";

Json sum_of_modules(const Json& report, const char* field) {
  std::int64_t sum = report["rest"][field].get<std::int64_t>();
  for (const Json& module : report["modules"]) {
    sum += module[field].get<std::int64_t>();
    std::int64_t parts = 0;
    for (const Json& part : module.value("parts", Json::array())) parts += part[field].get<std::int64_t>();
    CHECK(parts == module[field].get<std::int64_t>());
  }
  return sum;
}

/// What an element of the page says: its text, tags left out.
std::string text_of(const std::string& dom, const std::string& id) {
  const auto at = dom.find("id=\"" + id + "\"");
  if (at == std::string::npos) return "no " + id;
  const auto begin = dom.find('>', at) + 1;
  const auto tag_at = dom.rfind('<', at) + 1;
  const std::string tag = dom.substr(tag_at, dom.find_first_of(" >", tag_at) - tag_at);
  return std::regex_replace(dom.substr(begin, dom.find("</" + tag + ">", begin) - begin), std::regex("<[^>]*>"), " ");
}

/// The number after these texts, each found after the one before.
double number_behind(const std::string& dom, const std::vector<std::string>& texts) {
  std::size_t at = 0;
  for (const std::string& text : texts) {
    CAPTURE(text);
    at = dom.find(text, at);
    REQUIRE(at != std::string::npos);
    at += text.size();
  }
  return std::stod(dom.substr(at, 20));
}
double memory_bar(const std::string& dom, int module) {  // in percent of the highest there is
  return number_behind(dom, {"id=\"m" + std::to_string(module) + "\"", "class=\"stack\"", "height: "});
}
double time_bar(const std::string& dom, int module) {
  return number_behind(dom,
                       {"id=\"m" + std::to_string(module) + "\"", "class=\"plot time\"", "class=\"stack\"", "height: "});
}
double peak_meter(const std::string& dom) {
  return number_behind(dom, {"id=\"figure-peak\"", "class=\"meter\"", "width: "});
}
double step_time(const std::string& dom) { return number_behind(dom, {"id=\"figure-time\"", ">"}); }

/// The page as a headless browser has it after its scripts have run; empty where there is no browser.
std::string browse(const std::string& page, const std::string& hash) {
  static const std::string browser = [] {
    for (const char* name : {"chromium", "chromium-browser", "google-chrome"})
      if (world().run(std::string("command -v ") + name).code == 0) return std::string(name);
    return std::string();
  }();
  if (browser.empty()) return "";
  const Outcome outcome = world().run("env HOME=" + world().dir.string() + " timeout 120 " + browser +
                                      " --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --dump-dom 'file://" +
                                      (world().dir / page).string() + hash + "'");
  CAPTURE(outcome.err);
  REQUIRE(outcome.code == 0);
  return outcome.out;
}

/// The rows of memory that a dry run and its run are compared by.
const std::vector<std::string> kRoles{
    "parameter", "buffer", "gradient", "optimizer state", "saved activation", "transient activation", "all at a time"};
/// What a dry run said of the run itself: the last column.
std::string megabytes(const Outcome& said, const std::string& role) {
  CAPTURE(said.err);
  REQUIRE(said.code == 0);
  std::smatch match;
  REQUIRE(std::regex_search(said.out, match, std::regex("\n  " + role + "(?: +[<0-9.]+)? +([<0-9.]+)")));
  return match[1];
}
/// What the run's ledger then had: `peaks` of summary.json.
double accounted_mb(const Json& peaks, const std::string& role) {
  return peaks[role == "all at a time" ? "total" : role].get<double>() / 1e6;
}

}  // namespace

TEST_CASE("yolo-explain: usage and mistakes") {
  const auto message = [](const Outcome& outcome, int code) {
    CHECK(outcome.code == code);
    return outcome.err;
  };
  CHECK(message(world().run(kBin + "yolo-explain"), 1).find("one of --weights, --cfg and --model") != std::string::npos);
  CHECK(message(world().run(kExplain + "--freeze 99"), 1).find("yolo-explain: --freeze") == 0);
  CHECK(message(world().run(kExplain + "--weights a.pt"), 2).find("--weights") != std::string::npos);
  CHECK(message(world().run(kBin + "yolo-explain --cfg nothing.yaml"), 1).find("nothing.yaml") != std::string::npos);
  CHECK(message(world().run(kExplain + "--model resnet18"), 2).find("--model") != std::string::npos);
  CHECK(message(world().run(kExplain + "--classes 2"), 2).find("--classes") != std::string::npos);
  CHECK(message(world().run(kBin + "yolo-explain --model resnet19"), 1).find("Available models are: resnet18") !=
        std::string::npos);
  CHECK(message(world().run(kBin + "yolo-explain --model resnet18 --freeze 7"), 1).find("the model has 6 layers") !=
        std::string::npos);
  CHECK(message(world().run(kExplain + "--cache-features"), 1).find("--cache-features: there is nothing to keep") !=
        std::string::npos);
  CHECK(message(world().run(kExplain + "--freeze 10 --frozen-bn batch --cache-features"), 1).find("--frozen-bn batch") !=
        std::string::npos);
  CHECK(message(world().run(kBin + "yolo-explain --model resnet18 --freeze 3 --cache-features"), 1).find("classify-train") !=
        std::string::npos);
  CHECK(message(world().run(kExplain + "--json /dev/null/e.json"), 1).find("/dev/null") != std::string::npos);
  const Outcome help = world().run(kBin + "yolo-explain --help");
  CHECK(help.code == 0);
  for (const char* flag : {"--freeze", "--frozen-bn", "--measure", "--json", "--html", "--model", "--classes"})
    CHECK(help.out.find(flag) != std::string::npos);
}

TEST_CASE("yolo-explain: the table, and a JSON file in which everything adds up") {
  const Outcome outcome = world().run(kExplain + "--freeze 10 --measure --parts --json e.json");
  CAPTURE(outcome.err);
  REQUIRE(outcome.code == 0);
  for (const char* word : {"model.9 ", "SPPF", "model.23.cv3.conv", "fused convolution", "all trainable", "measured"})
    CHECK(outcome.out.find(word) != std::string::npos);
  const std::string totals = outcome.out.substr(outcome.out.find("memory at its peak")), exact = "  exact\n";
  std::size_t count = 0;  // eight roles and their sum, three kinds of arithmetic
  for (std::size_t at = 0; (at = totals.find(exact, at)) != std::string::npos; at += exact.size()) ++count;
  CHECK(count == 12);
  CHECK(std::regex_search(totals, std::regex("\n  a whole step .* [-+][0-9.]+ %\n")));
  const Json json = Json::parse(slurp(world().dir / "e.json"));
  CHECK(json["format"] == "frost.explain.1");
  CHECK(json["freeze"] == Json::array({"10"}));
  for (const char* which : {"predicted", "all_trainable", "measured"}) {
    CAPTURE(which);
    const Json& report = json[which];
    CHECK(report["modules"].size() == 25);
    for (const char* field : {"parameters", "trainable", "weight_bytes", "buffer_bytes", "gradient_bytes", "optimizer_bytes",
                              "ema_bytes", "saved_bytes", "forward_flops", "dgrad_flops", "wgrad_flops"})
      CHECK(sum_of_modules(report, field) == report["total"][field]);
  }
  // docs/spec/freeze_prune.md section 1.2
  CHECK(json["predicted"]["total"]["parameters"] == 1872157);
  CHECK(json["predicted"]["total"]["trainable"] == 825789);
  CHECK(json["all_trainable"]["total"]["trainable"] == 1872157);
  CHECK(json["predicted"]["peak_bytes_by_role"] == json["measured"]["peak_bytes_by_role"]);
  CHECK(json["predicted"]["peak_bytes"] == json["measured"]["peak_bytes"]);
  CHECK(json["predicted"]["primitives"] == json["measured"]["primitives"]);
  CHECK(json["measured"]["wall_seconds"] > 0);
  CHECK(json["predicted"]["total"]["forward_seconds"] > 0);
}

TEST_CASE("yolo-explain: brackets say what would be without freezing, of the forward pass too") {
  const auto rows = [](const std::string& flags) {
    const Outcome outcome = world().run(kExplain + "--freeze 10 " + flags);
    CAPTURE(outcome.err);
    REQUIRE(outcome.code == 0);
    return outcome.out;
  };
  // The three kinds of arithmetic end a row. Two images of 64 px: 2 x 32x32x16 outputs of 6x6x3 multiply-adds, 7.1 MFLOP.
  const std::string plain = rows(""), cached = rows("--cache-features");
  CHECK(std::regex_search(plain, std::regex("\nmodel\\.0 .*\\) +0\\.007 +0 +0 \\(0\\.007\\)\n")));
  CHECK(std::regex_search(cached, std::regex("\nmodel\\.0 .*\\) +0 \\(0\\.007\\) +0 +0 \\(0\\.007\\)\n")));
  const std::string both = " +([0-9.]+) \\(([0-9.]+)\\)";
  std::smatch total;
  CHECK_FALSE(std::regex_search(plain, std::regex("\ntotal .*" + both + both + both + "\n")));
  REQUIRE(std::regex_search(cached, total, std::regex("\ntotal .*" + both + both + both + "\n")));
  CHECK(std::stod(total[1]) < std::stod(total[2]));
  CHECK(total[2] == total[6]);  // each convolution's forward pass and weight gradient cost the same
}

TEST_CASE("yolo-explain: a classifier, by name and as a file says; its slider counts what --freeze counts") {
  const std::string flags = "yolo-explain --batch-size 2 --imgsz 64 --freeze '!fc' ";
  const Outcome outcome = world().run(kBin + flags + "--model resnet18 --classes 2 --measure --json r.json --html r.html");
  CAPTURE(outcome.err);
  REQUIRE(outcome.code == 0);
  CHECK(outcome.out.find("One training step of resnet18, --freeze !fc, batch 2 at 64x64, f32, SGD.") != std::string::npos);
  const Json json = Json::parse(slurp(world().dir / "r.json"));
  CHECK(json["model"] == "resnet18");
  CHECK(json["precision"] == "f32");  // what auto means here
  CHECK(json["predicted"]["modules"].size() == 6);
  for (const char* field : {"parameters", "trainable", "saved_bytes", "buffer_bytes", "wgrad_flops"})
    CHECK(sum_of_modules(json["predicted"], field) == json["predicted"]["total"][field]);
  CHECK(json["predicted"]["total"]["parameters"] == 11177538);
  CHECK(json["predicted"]["total"]["trainable"] == 512 * 2 + 2);
  for (const char* field : {"peak_bytes", "peak_bytes_by_role", "resident_bytes_by_role", "primitives"})
    CHECK(json["predicted"][field] == json["measured"][field]);

  const std::string one = browse("r.html", "#freeze=1&select=layer1");
  if (one.empty()) {
    MESSAGE("SKIPPED: no chromium here; third_party/install.sh tests installs it");
  } else {
    CHECK(text_of(browse("r.html", ""), "n") == "!fc");
    CHECK(text_of(one, "meaning").find("11,168,002 of 11,177,538 parameters train.") != std::string::npos);
    CHECK(text_of(one, "chosen-state").find("trains, 147,968 parameters") == 0);
    CHECK(text_of(browse("r.html", "#freeze=5"), "meaning").find("the backbone. 1,026 of") != std::string::npos);
    CHECK(text_of(browse("r.html", "#freeze=6"), "meaning") == "Every layer is frozen: nothing trains.");
  }
}

TEST_CASE("yolo-explain --weights: the file says that it is a classifier") {
  frost::testing::write_stripes(world().dir / "stripes", 0, 3, 1);
  REQUIRE(world()
              .run(kBin + "classify-train --model yolov5n-cls --data stripes --epochs 1 --imgsz 32 --noplots --project c")
              .code == 0);
  const std::string flags =
      "yolo-explain --weights c/exp/weights/last.safetensors --batch-size 1 --freeze '!model.9.linear' --json w.json";
  REQUIRE(world().run(kBin + flags).code == 0);
  Json json = Json::parse(slurp(world().dir / "w.json"));
  CHECK(json["model"] == "yolov5n-cls");
  CHECK(json["imgsz"] == 224);
  CHECK(json["predicted"]["total"]["trainable"] == 1280 * 3 + 3);
  REQUIRE(world().run(kBin + flags + " --classes 7").code == 0);  // a new head
  json = Json::parse(slurp(world().dir / "w.json"));
  CHECK(json["predicted"]["total"]["trainable"] == 1280 * 7 + 7);
}

TEST_CASE("yolo-train --dry-run: nothing is written, and the run then takes what was said") {
  for (const std::string freeze : {"--freeze 0", "--freeze 10", "--freeze 10 --frozen-bn batch"}) {
    CAPTURE(freeze);
    // Two epochs: one that follows a validation, too.
    const auto train = [&](const std::string& flags) {
      return world().run(kBin + "yolo-train --data " + world().data() +
                         " --imgsz 64 --batch-size 4 --epochs 2 --weights '' --cfg yolov5n.yaml --noautoanchor --noplots "
                         "--project dry " +
                         freeze + flags);
    };
    fs::remove_all(world().dir / "dry");
    const Outcome said = train(" --dry-run");
    CAPTURE(said.err);
    REQUIRE(said.code == 0);
    CHECK(said.out.find("Dry run: batches of 4 at 64x64, f32, SGD.") != std::string::npos);
    CHECK(said.out.find("all labels") == std::string::npos);
    CHECK_FALSE(fs::exists(world().dir / "dry"));
    REQUIRE(train("").code == 0);
    const Json peaks = Json::parse(slurp(world().dir / "dry" / "exp" / "summary.json"))["peak_bytes"];
    for (const std::string& role : kRoles) {
      CAPTURE(role);  // three digits are printed
      CHECK(std::stod(megabytes(said, role)) == doctest::Approx(accounted_mb(peaks, role)).epsilon(0.006));
    }
  }
  const Outcome few = world().run(kBin + "yolo-train --data " + world().data() +
                                  " --imgsz 64 --batch-size 32 --weights '' --cfg yolov5n.yaml --dry-run");
  CHECK(few.out.find("Dry run: batches of 8 at 64x64, f32, SGD.") != std::string::npos);  // there are no more images
}

TEST_CASE("yolo-train --dry-run --cache-features: the first epoch and the later ones, as the run then accounts them") {
  const auto train = [](const std::string& flags) {
    return world().run(kBin + "yolo-train --data " + world().data() +
                       " --imgsz 64 --batch-size 4 --epochs 3 --weights '' --cfg yolov5n.yaml --noautoanchor --noplots "
                       "--freeze 10 --hyp no-augmentation --cache-features --project dry --name cached --exist-ok " +
                       flags);
  };
  const Outcome said = train("--dry-run"), done = train("");
  CAPTURE(said.err);
  REQUIRE(said.code == 0);
  REQUIRE(done.code == 0);
  CHECK(said.out.find("--cache-features keeps 0.029 MB of each image") != std::string::npos);
  CHECK(done.out.find("kept features: layers 0 to 9, 0.2 MB (ram); 3 of 6 batches came from there") != std::string::npos);
  const Json peaks = Json::parse(slurp(world().dir / "dry" / "cached" / "summary.json"))["peak_bytes"];
  for (const std::string& role : kRoles) {
    CAPTURE(role);
    std::smatch match;  // all trainable, the first epoch, what it saves, later ones
    REQUIRE(std::regex_search(said.out, match,
                              std::regex("\n  " + role + " +[0-9.]+ +([0-9.]+)(?: +[-+][0-9]+ %)? +([0-9.]+)\n")));
    CHECK(std::max(std::stod(match[1]), std::stod(match[2])) ==
          doctest::Approx(accounted_mb(peaks, role)).epsilon(0.006));  // three digits are printed
  }
}

TEST_CASE("yolo-train --dry-run: masks to come count, and so does what is unfrozen") {
  const auto dry = [](const std::string& flags) {
    return world().run(kBin + "yolo-train --data " + world().data() +
                       " --imgsz 64 --batch-size 4 --epochs 3 --weights '' --cfg yolov5n.yaml --noautoanchor --dry-run " +
                       flags);
  };
  const Outcome plain = dry(""), frozen = dry("--freeze 10"), pruned = dry("--prune-schedule 0:0.5:1"),
                unfrozen = dry("--freeze 10 --unfreeze-at 1:5 2:0"), half_unfrozen = dry("--freeze 10 --unfreeze-at 1:5"),
                five = dry("--freeze 5");
  CHECK(std::stod(megabytes(pruned, "parameter")) > 1.8 * std::stod(megabytes(plain, "parameter")));
  CHECK(megabytes(frozen, "saved activation") != megabytes(plain, "saved activation"));
  for (const char* role : {"parameter", "gradient", "optimizer state", "saved activation", "all at a time"}) {
    CAPTURE(role);
    CHECK(megabytes(unfrozen, role) == megabytes(plain, role));
    CHECK(megabytes(half_unfrozen, role) == megabytes(five, role));
  }
  CHECK(unfrozen.out.find("--unfreeze-at 2:0: the last stage counts") != std::string::npos);
  const Outcome both = dry("--freeze 24 --unfreeze-at 2:0 --prune-schedule 0:0.5:1");  // masks of all that will train
  CHECK(megabytes(both, "parameter") == megabytes(pruned, "parameter"));
  const Outcome malformed = dry("--prune-schedule 1:2");
  CHECK(malformed.code == 1);
  CHECK(malformed.err.find("expected FROM:TO:EPOCHS") != std::string::npos);
}

TEST_CASE("yolo-explain --html: a page that needs nothing else, and does what it says in a browser") {
  const Outcome outcome = world().run(kExplain + "--freeze 10 --json page.json --html page.html");
  CAPTURE(outcome.err);
  REQUIRE(outcome.code == 0);
  const std::string page = slurp(world().dir / "page.html");
  CHECK(page.find("@DATA@") == std::string::npos);
  for (const char* outside : {"http:", "https:", " src=", "@import", "url(", "<link"})
    CHECK(page.find(outside) == std::string::npos);

  const std::string start = browse("page.html", "");
  if (start.empty()) {
    MESSAGE("SKIPPED: no chromium here; third_party/install.sh tests installs it");
    return;
  }
  CHECK(text_of(start, "n") == "10");  // --freeze 10: there the slider stands
  CHECK(start.find("<button id=\"asked\" type=\"button\" hidden=") != std::string::npos);
  const Json json = Json::parse(slurp(world().dir / "page.json"));
  const auto megabytes = [](const Json& bytes) {
    const double mb = bytes.get<double>() / 1e6;
    char text[32];
    std::snprintf(text, sizeof text, mb >= 10 ? "%.1f MB" : "%.2f MB", mb);
    return std::string(text);
  };
  CHECK(text_of(start, "figure-peak") == megabytes(json["predicted"]["peak_bytes"]));
  CHECK(text_of(start, "meaning").find("the backbone. 825,789 of 1,872,157 parameters train.") != std::string::npos);

  const std::string none = browse("page.html", "#freeze=0&select=model.4");
  CHECK(text_of(none, "figure-peak") == megabytes(json["all_trainable"]["peak_bytes"]));
  CHECK(text_of(none, "chosen").find("model.4") == 0);
  CHECK(text_of(none, "tensors").find("Computed: these weights train.") != std::string::npos);
  CHECK(text_of(none, "tensors").find("Never made") == std::string::npos);

  // Bars and meters are as long as what they stand for; a browser writes six digits.
  const auto bytes = [&](const char* which) {
    double sum = 0;
    for (const char* kind : {"weight", "buffer", "gradient", "optimizer", "ema", "saved"})
      sum += json[which]["modules"][8][kind + std::string("_bytes")].get<double>();
    return sum;
  };
  CHECK(memory_bar(start, 8) / memory_bar(none, 8) ==
        doctest::Approx(bytes("predicted") / bytes("all_trainable")).epsilon(1e-4));
  CHECK(peak_meter(none) == 100);
  CHECK(peak_meter(start) == doctest::Approx(100 * json["predicted"]["peak_bytes"].get<double>() /
                                             json["all_trainable"]["peak_bytes"].get<double>())
                                 .epsilon(1e-4));
  CHECK(time_bar(start, 8) < time_bar(none, 8));
  CHECK(step_time(start) < step_time(none));

  // A hand on the slider, a click, an arrow key: what a person does, done by a script in a copy of the page.
  write(world().dir / "driven.html",
        page +
            "<script>const s = document.getElementById('freeze'); s.value = 24; s.dispatchEvent(new Event('input'));"
            "document.getElementById('m8').click();"
            "document.getElementById('m8').dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowRight'}));</script>");
  const std::string driven = browse("driven.html", "");
  CHECK(text_of(driven, "n") == "24");
  CHECK(text_of(driven, "figure-peak") != text_of(start, "figure-peak"));
  CHECK(peak_meter(driven) < peak_meter(start));
  CHECK(step_time(driven) < step_time(start));
  CHECK(memory_bar(driven, 23) < memory_bar(start, 23));  // trained at 10, frozen at 24
  CHECK(time_bar(driven, 23) < time_bar(start, 23));
  CHECK(text_of(driven, "chosen").find("model.9") == 0);
  CHECK(text_of(driven, "chosen-state").find("frozen, 164,608 parameters") == 0);
  for (const char* sentence :
       {"Never made: no parameter of this module trains.", "Never made: the average of a constant is that constant",
        "Not kept: nothing in or below this module trains", "Not computed: no weight here trains."})
    CHECK(text_of(driven, "tensors").find(sentence) != std::string::npos);
  CHECK(driven.find("aria-pressed=\"true\"") == driven.rfind("aria-pressed=\"true\""));  // one module is chosen
}

TEST_CASE("yolo-explain --html: what --freeze names and no number of layers says has a button beside the slider") {
  const Outcome outcome = world().run(kExplain + "--freeze 10-24 'model.*.bn.*' --json asked.json --html asked.html");
  CAPTURE(outcome.err);
  REQUIRE(outcome.code == 0);
  const std::string start = browse("asked.html", "#select=model.17");
  if (start.empty()) {
    MESSAGE("SKIPPED: no chromium here; third_party/install.sh tests installs it");
    return;
  }
  const Json json = Json::parse(slurp(world().dir / "asked.json"));
  CHECK(text_of(start, "n") == "10-24 model.*.bn.*");
  CHECK(text_of(start, "asked") == "--freeze 10-24 model.*.bn.*");
  CHECK(start.find("<button id=\"asked\" type=\"button\" aria-pressed=\"true\">") != std::string::npos);
  CHECK(text_of(start, "meaning") == "1,041,088 of 1,872,157 parameters train.");
  const auto share = [&](const char* which) { return json[which]["peak_bytes"].get<double>(); };
  CHECK(peak_meter(start) == doctest::Approx(100 * share("predicted") / share("all_trainable")).epsilon(1e-4));
  // A frozen layer above trainable ones, and one whose norms alone are frozen.
  CHECK(text_of(start, "tensors").find("a module further down trains, so the gradient passes through here") !=
        std::string::npos);
  const std::string four = browse("asked.html", "#freeze=asked&select=model.4");
  for (const char* sentence : {"Kept: running statistics of the batch norms, constants here.",
                               "Kept: validation uses the moving average of the weights.", "Computed: these weights train."})
    CHECK(text_of(four, "tensors").find(sentence) != std::string::npos);

  // The button goes to where the slider stands and back.
  write(world().dir / "asked_driven.html",
        slurp(world().dir / "asked.html") +
            "<p id='seen'></p><script>const s = document.getElementById('freeze'), b = document.getElementById('asked');"
            "const see = () => document.getElementById('seen').append(document.getElementById('n').textContent + ';');"
            "see(); b.click(); see(); s.value = 5; s.dispatchEvent(new Event('input')); see(); b.click(); see();"
            "b.click(); see();</script>");
  CHECK(text_of(browse("asked_driven.html", ""), "seen") == "10-24 model.*.bn.*;0;5;10-24 model.*.bn.*;5;");
}
