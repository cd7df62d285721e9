#include "tools/arguments.h"

#include <doctest/doctest.h>

#include <cmath>
#include <string>
#include <utility>
#include <vector>

namespace frost {
namespace {

using Words = std::vector<std::string>;

/// Flags like those of yolo-train: `--project` says that YOLOv5 has the tool too.
struct Tool {
  CLI::App app;
  std::string weights, hyp, cache, cache_features, unfreeze_at, project;
  int epochs = 100, batch = 16, imgsz = 640;
  double conf = 0, iou = 0;
  std::vector<std::string> freeze;
  bool nosave = false, noval = false, noplots = false, graph = true;
  Tool() {
    app.add_option("--weights", weights);
    app.add_option("--hyp", hyp);
    app.add_option("--cache", cache)->expected(0, 1);
    app.add_option("--cache-features", cache_features)->expected(0, 1);
    app.add_option("--unfreeze-at", unfreeze_at);
    app.add_option("--project", project);
    app.add_option("--epochs", epochs)->transform(whole_number(1));
    app.add_option("--batch-size,--batch", batch)->transform(whole_number(1, 4096, "AutoBatch is not supported"));
    app.add_option("--imgsz,--img,--img-size", imgsz)->transform(whole_number(32, 8192));
    app.add_option("--conf-thres", conf)->check(number(0, 1));
    app.add_option("--iou-thres", iou)->check(number(0, 1));
    app.add_option("--freeze", freeze);
    app.add_flag("--nosave", nosave);
    app.add_flag("--noval", noval);
    app.add_flag("--noplots", noplots);
    app.add_flag("--cuda-graph,!--no-cuda-graph", graph);
  }
  void parse(Words words) {
    words.insert(words.begin(), "tool");
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    parse_arguments(app, static_cast<int>(argv.size()), argv.data());
  }
};

std::string message(const Words& words) {
  Tool tool;
  try {
    tool.parse(words);
  } catch (const CLI::ParseError& e) {
    return e.what();
  }
  return "no error";
}
Words resolved(const Words& words) { return resolve_arguments(Tool().app, words); }

}  // namespace

TEST_CASE("arguments: prefixes that can mean one flag alone") {
  Tool tool;
  tool.parse({"--conf", "0.001", "--iou", "0.65", "--weight", "w.pt", "--epoch", "3", "--img", "320", "--batch", "8"});
  CHECK(tool.conf == 0.001);
  CHECK(tool.iou == 0.65);
  CHECK(tool.weights == "w.pt");
  CHECK(tool.epochs == 3);
  CHECK(tool.imgsz == 320);
  CHECK(tool.batch == 8);
  CHECK(resolved({"--w=w.pt", "--e=3", "--f", "0", "1"}) == Words{"--weights=w.pt", "--epochs=3", "--freeze", "0", "1"});
  CHECK(resolved({"--batch_size", "4"}) == Words{"--batch-size", "4"});
  CHECK(resolved({"--img_size=64"}) == Words{"--img-size=64"});
  CHECK(resolved({"--conf_t", "0"}) == Words{"--conf-thres", "0"});
  CHECK(resolved({"--bat", "1"}).at(1) == "1");  // --batch and --batch-size are one flag
  CHECK(resolved({"--no-c"}) == Words{"--no-cuda-graph"});
  CHECK(resolved({"--batch", "1"}) == Words{"--batch", "1"});  // exact, though --batch-size begins so
  CHECK(resolved({"--weights", "", "--", "--no", "-x"}) == Words{"--weights", "", "--", "--no", "-x"});
  CHECK(resolved({"--freeze", "-1", "-0.5", "-"}) == Words{"--freeze", "-1", "-0.5", "-"});
  CHECK(resolved({"--hyp=a=b"}) == Words{"--hyp=a=b"});
  CHECK(resolved({"-h", "--hel"}) == Words{"-h", "--help"});
  CHECK(resolved({"--cach", "ram"}) == Words{"--cache", "ram"});  // --cache-features is frost's alone
  CHECK(resolved({"--cache-f"}) == Words{"--cache-features"});
  CHECK(resolved({"--unf", "3"}) == Words{"--unfreeze-at", "3"});
}

TEST_CASE("arguments: an empty value takes nothing from the next flag") {
  CHECK(resolved({"--weights=", "--nosave"}) == Words{"--weights", "", "--nosave"});
  for (const Words& empty : {Words{"--weights="}, Words{"--weights", ""}, Words{"--w="}}) {
    Tool tool;
    Words words = empty;
    words.insert(words.end(), {"--hyp=h.yaml", "--nosave", "--img", "64"});
    tool.parse(words);
    CHECK(tool.weights.empty());
    CHECK(tool.hyp == "h.yaml");
    CHECK(tool.nosave);
    CHECK(tool.imgsz == 64);
  }
}

TEST_CASE("arguments: of a flag that is given twice the last one counts") {
  CHECK(resolved({"--freeze", "10", "--nosave", "--fr", "5", "6"}) == Words{"--nosave", "--freeze", "5", "6"});
  CHECK(resolved({"--img", "64", "--imgsz=128", "--img-size", "32"}) == Words{"--img-size", "32"});
  CHECK(resolved({"a", "--hyp", "x", "--hyp=y", "--", "--hyp", "z"}) == Words{"a", "--hyp=y", "--", "--hyp", "z"});
  Tool tool;
  tool.parse({"--epochs", "3", "--freeze", "10", "--epochs=4", "--freeze", "5", "--nosave", "--nosave"});
  CHECK(tool.epochs == 4);
  CHECK(tool.freeze == Words{"5"});
  CHECK(tool.nosave);
}

TEST_CASE("arguments: words that no flag takes stay, in their order, where a flag is given twice") {
  struct Compare {  // like frost-compare
    CLI::App app;
    Words runs;
    std::string title;
    bool markdown = false;
    Compare() {
      app.add_option("runs", runs);
      app.add_option("--title", title);
      app.add_flag("--markdown", markdown);
    }
  };
  const std::pair<Words, Words> cases[] = {
      {{"A", "--title", "x", "B", "--title", "y"}, {"A", "B"}},
      {{"--markdown", "C", "--title=x", "B", "--title", "y", "A"}, {"C", "B", "A"}},
      {{"--title", "x", "A", "--markdown", "B", "--title=y", "--markdown", "C"}, {"A", "B", "C"}},
      {{"--title=", "A", "--title", "y", "--", "--markdown"}, {"A", "--markdown"}},
  };
  for (const auto& [words, runs] : cases) {
    Compare tool;
    Words line = words;
    line.insert(line.begin(), "tool");
    std::vector<char*> argv;
    for (std::string& word : line) argv.push_back(word.data());
    parse_arguments(tool.app, static_cast<int>(argv.size()), argv.data());
    CHECK(tool.runs == runs);
    CHECK(tool.title == "y");
  }
  CHECK(message({"--conf", "0.001", "oops", "--conf", "0.5"}) == "an argument that belongs to no option: oops");
  CHECK(message({"--nosave", "a", "--nosave", "b"}) == "arguments that belong to no option: a b");
  CHECK(message({"--hyp=x", "a", "--cache", "ram", "b", "--cache"}) == "arguments that belong to no option: a b");
  CHECK(resolved({"--freeze", "1", "2", "--hyp", "x", "a", "--hyp", "y"}) == Words{"a", "--freeze", "1", "2", "--hyp", "y"});
}

TEST_CASE("arguments: ambiguous, unknown and foreign flags") {
  CHECK(message({"--no"}) == "ambiguous option: --no could match --no-cuda-graph, --noplots, --nosave, --noval");
  CHECK(message({"--h", "x"}) == "ambiguous option: --h could match --help, --hyp");
  CHECK(message({"--c=1"}) == "ambiguous option: --c could match --cache, --cache-features, --conf-thres, --cuda-graph");
  CHECK(message({"--iou-tresh", "0.5"}) == "unknown option --iou-tresh (did you mean --iou-thres?)");
  CHECK(message({"--batchsize=3"}) == "unknown option --batchsize (did you mean --batch-size?)");
  CHECK(message({"--epcohs", "3"}) == "unknown option --epcohs (did you mean --epochs?)");
  CHECK(message({"--conf-threshold", "3"}) == "unknown option --conf-threshold (did you mean --conf-thres?)");
  CHECK(message({"--nosaev"}) == "unknown option --nosaev (did you mean --nosave?)");
  CHECK(message({"-weights", "w"}) == "unknown option -weights (did you mean --weights?)");
  CHECK(message({"--zzz"}) == "unknown option --zzz");
  CHECK(message({"--alpha", "1", "--beta=2", "--gamma"}) ==
        "unknown option --alpha; unknown option --beta; unknown option --gamma");  // as typed
  CHECK(message({"--evolve"}) == "--evolve is YOLOv5's, not supported by frost");
  for (const std::string flag : {"--image-weights", "--quad", "--sync-bn", "--bucket", "--entity", "--upload_dataset",
                                 "--local_rank", "--bbox_interval", "--artifact_alias", "--save-hybrid"})
    CHECK(message({flag, "1"}) == flag + " is YOLOv5's, not supported by frost");
  CHECK(message({"--adam"}) == "--adam is YOLOv5's, not supported by frost; use --optimizer Adam");
  CHECK(message({"--augm"}) == "unknown option --augm; YOLOv5's --augment is not supported by frost");
  CHECK(message({"--ev=3"}) == "unknown option --ev; YOLOv5's --evolve is not supported by frost");
  CHECK(message({"--log"}) ==
        "unknown option --log; YOLOv5's --log-artifacts, --log-imgs, --logdir are not supported by frost");
  CHECK(message({"--u", "x"}) == "ambiguous option: --u could match --unfreeze-at, or YOLOv5's --update, --upload-dataset");
  {
    CLI::App own;  // YOLOv5 has no such tool: there a prefix means the tool's own flag
    std::string unfreeze_at;
    own.add_option("--unfreeze-at", unfreeze_at);
    CHECK(resolve_arguments(own, {"--u", "x"}) == Words{"--unfreeze-at", "x"});
  }
  CHECK(message({"--noplots="}) == "--noplots takes no value");
  CHECK(message({"--=5"}) == "unknown option --");
  CHECK(message({"--quad", "--zzz", "--no"})
            .starts_with("--quad is YOLOv5's, not supported by frost; unknown option --zzz; amb"));
  CHECK(message({"--epochs", "3", "one", "two"}) == "arguments that belong to no option: one two");
  CHECK(message({"one", "--epochs", "3"}) == "an argument that belongs to no option: one");
}

TEST_CASE("arguments: values out of range or of the wrong kind") {
  CHECK(message({"--batch-size", "-1"}) == "--batch-size: must be from 1 to 4096; AutoBatch is not supported (given: -1)");
  CHECK(message({"--epochs", "0"}) == "--epochs: must be at least 1 (given: 0)");
  CHECK(message({"--epochs", "-5"}) == "--epochs: must be at least 1 (given: -5)");
  CHECK(message({"--img", "16"}) == "--imgsz: must be from 32 to 8192 (given: 16)");
  CHECK(message({"--epochs", "99999999999"}) == "--epochs: must be at most 2147483647 (given: 99999999999)");
  CHECK(message({"--epochs", "99999999999999999999"}) ==
        "--epochs: must be at most 2147483647 (given: 99999999999999999999)");
  CHECK(message({"--epochs", "-99999999999999999999"}) == "--epochs: must be at least 1 (given: -99999999999999999999)");
  for (const std::string text : {"ten", "1e3", "3.5", "0x10", "", "3 ", "nan"})
    CHECK(message({"--epochs=" + text, "--noval"}).find("whole number") != std::string::npos);
  for (const std::string text : {"nan", "inf", "-inf", "0,5", "half", "0x1p-1", "1e999"})
    CHECK(message({"--conf=" + text}).size() < 80);
  CHECK(message({"--conf", "nan"}) == "--conf-thres: a finite number is expected, not 'nan'");
  CHECK(message({"--conf", "0,5"}) == "--conf-thres: a finite number is expected, not '0,5'");
  CHECK(message({"--conf", "1.5"}) == "--conf-thres: must be from 0 to 1 (given: 1.5)");
  CHECK(message({"--conf", "-0.1"}) == "--conf-thres: must be from 0 to 1 (given: -0.1)");
  CHECK(message({"--conf", "1e999"}) == "--conf-thres: must be from 0 to 1 (given: 1e999)");
  CHECK(message({"--epochs"}).starts_with("--epochs: "));
  Tool tool;
  tool.parse({"--epochs", "010", "--conf", "+.5", "--iou=1e-3", "--batch", "+7", "--epochs", "12"});
  CHECK(tool.epochs == 12);  // the last one
  CHECK(tool.conf == 0.5);
  CHECK(tool.iou == 1e-3);
  CHECK(tool.batch == 7);
  for (const std::string small : {"1e-400", "-1e-400", "0.0e-9999", "1e-5000"}) {
    CAPTURE(small);
    Tool none;
    none.conf = 1;
    none.parse({"--conf=" + small});
    CHECK(std::abs(none.conf) < 1e-300);
  }
  CHECK(message({"--conf", "-1e400"}) == "--conf-thres: must be from 0 to 1 (given: -1e400)");
  Tool octal;
  octal.parse({"--epochs", "010"});
  CHECK(octal.epochs == 10);
}

}  // namespace frost
