#include <doctest/doctest.h>
#include <zip.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>

#include "engine/checkpoint/safetensors.h"
#include "engine/report/run_summary.h"
#include "kernels/cuda_loader.h"
#include "tests/tools/world.h"

// What a user may do wrong, end to end: one clear line that names file and cause, exit code 1 (2 for usage), nothing
// half-written.
using namespace frost::tests;

namespace {

std::string without_temporaries(const fs::path& folder) {
  std::string found;
  for (const auto& entry : fs::recursive_directory_iterator(folder))
    if (entry.path().filename().string().find(".tmp") != std::string::npos) found += entry.path().string() + " ";
  return found;
}

/// A zip file as torch.save writes it, with the given pickle.
void write_torch_zip(const fs::path& file, const std::string& pickle) {
  int error = 0;
  zip_t* zip = zip_open(file.c_str(), ZIP_CREATE | ZIP_TRUNCATE, &error);
  REQUIRE(zip != nullptr);
  const auto add = [&](const char* name, const std::string& bytes) {
    const zip_int64_t index =
        zip_file_add(zip, name, zip_source_buffer(zip, bytes.data(), bytes.size(), 0), ZIP_FL_ENC_UTF_8);
    REQUIRE(index >= 0);
    zip_set_file_compression(zip, static_cast<zip_uint64_t>(index), ZIP_CM_STORE, 0);
  };
  const std::string version = "3\n";
  add("archive/data.pkl", pickle);
  add("archive/version", version);
  REQUIRE(zip_close(zip) == 0);
}

/// One trained run, to break in several ways.
const fs::path& trained() {
  static const fs::path folder = [] {
    const Outcome outcome = world().train("--weights '' --cfg yolov5n.yaml --project base --name run --exist-ok");
    INFO(outcome.err);
    REQUIRE(outcome.code == 0);
    return world().dir / "base" / "run";
  }();
  return folder;
}

}  // namespace

TEST_CASE("usage: exit code 2 and a hint") {
  expect_error(world().run(kBin + "yolo-train --epochs many"), "yolo-train", {"--epochs", "--help"}, 2);
  expect_error(world().run(kBin + "yolo-train --no-such-flag"), "yolo-train", {"--no-such-flag"}, 2);
  expect_error(world().run(kBin + "yolo-val --task guess"), "yolo-val", {"--task"}, 2);
  const Outcome help = world().run(kBin + "yolo-train --help");
  CHECK(help.code == 0);
  for (const char* flag : {"--weights", "--freeze", "--frozen-bn", "--imgsz", "--resume"})
    CHECK(help.out.find(flag) != std::string::npos);
}

TEST_CASE("--precision f16: where the device has none, each tool that judges or uses a model says so in one line") {
  if (!frost::testing::on_cpu()) return;  // a GPU has it
  for (const char* tool : {"yolo-val", "classify-val", "classify-predict"}) {
    const std::string data = std::string(tool) == "classify-predict" ? "" : " --data d";
    expect_error(world().run(kBin + tool + " --weights w --precision f16" + data), tool,
                 {"--precision f16: ", "has no instructions for it"});
  }
}

TEST_CASE("missing files") {
  expect_error(world().val("--weights nothing.pt --data " + world().data()), "yolo-val", {"nothing.pt"});
  expect_error(world().val("--weights " + trained().string() + "/weights/best.safetensors --data nothing.yaml"), "yolo-val",
               {"nothing.yaml"});
  expect_error(world().train("--weights '' --cfg nothing.yaml"), "yolo-train", {"nothing.yaml"});
  expect_error(world().train("--weights '' --cfg yolov5n.yaml --hyp nothing"), "yolo-train", {"nothing"});
  expect_error(world().train("--weights ''"), "yolo-train", {"--cfg", "--weights"});
}

TEST_CASE("data: no images, bad classes, bad boxes") {
  const fs::path d = world().dir / "empty";
  fs::create_directories(d / "images");
  write(d / "data.yaml", "path: .\ntrain: images\nval: images\nnames: [a, b]\n");
  expect_error(
      world().run(kBin + "yolo-train --weights '' --cfg yolov5n.yaml --imgsz 64 --data " + (d / "data.yaml").string()),
      "yolo-train", {"images", "No images found"});

  const fs::path bad = world().dir / "bad";
  fs::copy(world().dir / "shapes", bad, fs::copy_options::recursive);
  const fs::path label = fs::directory_iterator(bad / "labels" / "train")->path();
  write(label, "9 0.5 0.5 0.2 0.2\n");
  const std::string train = kBin +
                            "yolo-train --weights '' --cfg yolov5n.yaml --imgsz 64 --batch-size 4 --epochs 1 --noplots "
                            "--project bad-runs --data " +
                            (bad / "shapes.yaml").string();
  expect_error(world().run(train), "yolo-train", {label.filename().string(), "9", "0-3"});
  write(label, "1 0.5 0.5 -0.2 0.2\n");  // YOLOv5 leaves such an image out, says so, and goes on
  const Outcome outcome = world().run(train);
  CHECK(outcome.code == 0);
  CHECK(outcome.out.find("ignoring corrupt image/label: negative label values") != std::string::npos);
  CHECK(outcome.out.find(label.stem().string()) != std::string::npos);
  expect_error(world().run(train + " --strict"), "yolo-train", {label.stem().string(), "negative label values"});
}

TEST_CASE("data: a truncated JPEG is named and survived") {
  const fs::path bad = world().dir / "cut";
  fs::copy(world().dir / "shapes", bad, fs::copy_options::recursive);
  const fs::path image = fs::directory_iterator(bad / "images" / "val")->path();
  const std::string bytes = slurp(image);
  write(image, bytes.substr(0, bytes.size() / 2));
  const std::string val = kBin + "yolo-val --imgsz 64 --noplots --project v --weights " +
                          (trained() / "weights" / "best.safetensors").string() + " --data " +
                          (bad / "shapes.yaml").string();
  Outcome outcome = world().run(val);
  CAPTURE(outcome.out);
  CAPTURE(outcome.err);
  CHECK(outcome.code == 0);
  CHECK((outcome.out + outcome.err).find(image.filename().string()) != std::string::npos);
  expect_error(world().run(val + " --strict"), "yolo-val", {image.filename().string()});
  write(image, bytes.substr(0, 100));  // nothing to see in it: left out, and said
  outcome = world().run(val);
  CHECK(outcome.code == 0);
  CHECK((outcome.out + outcome.err).find(image.filename().string()) != std::string::npos);
  expect_error(world().run(val + " --strict"), "yolo-val", {image.filename().string()});
}

TEST_CASE("checkpoints: empty, truncated, foreign, hostile") {
  const std::string data = " --data " + world().data();
  write(world().dir / "zero.pt", "");
  expect_error(world().val("--weights zero.pt" + data), "yolo-val", {"zero.pt"});
  expect_error(world().train("--weights zero.pt"), "yolo-train", {"zero.pt"});
  const std::string good = slurp(trained() / "weights" / "best.safetensors");
  write(world().dir / "half.safetensors", good.substr(0, good.size() / 2));
  expect_error(world().val("--weights half.safetensors" + data), "yolo-val", {"half.safetensors"});
  write(world().dir / "text.pt", "this is no checkpoint, whatever its name says\n");
  expect_error(world().val("--weights text.pt" + data), "yolo-val", {"text.pt"});

  // data.pkl that would run os.system if it were trusted.
  const std::string marker = (world().dir / "owned").string();
  const std::string system = std::string(
                                 "\x80\x02"
                                 "cposix\nsystem\n"
                                 "X") +
                             static_cast<char>(6 + marker.size()) + std::string(3, '\0') + "touch " + marker + "\x85R.";
  write_torch_zip(world().dir / "evil.pt", system);
  expect_error(world().val("--weights evil.pt" + data), "yolo-val", {"evil.pt", "system"});
  expect_error(world().train("--weights evil.pt"), "yolo-train", {"evil.pt", "system"});
  CHECK_FALSE(fs::exists(marker));
  // {"fc.weight": 1}: some other program's checkpoint.
  write_torch_zip(world().dir / "other.pt", std::string("\x80\x02}X\x09\0\0\0fc.weightK\x01s.", 21));
  expect_error(world().val("--weights other.pt" + data), "yolo-val", {"other.pt"});
}

TEST_CASE("model YAML with a wrong module") {
  write(world().dir / "wrong.yaml",
        "nc: 4\ndepth_multiple: 1.0\nwidth_multiple: 0.25\nanchors:\n  - [10,13, 16,30, 33,23]\n"
        "backbone:\n  - [-1, 1, Conv, [64, 6, 2, 2]]\n  - [-1, 1, Convv, [64, 3, 2]]\nhead:\n  - [[1], 1, Detect, [nc, "
        "anchors]]\n");
  expect_error(world().train("--weights '' --cfg wrong.yaml"), "yolo-train", {"wrong.yaml", "layer 1", "Convv", "Conv"});
  for (const char* row : {"[-1, 1, Conv, [64, 3, 0]]", "[-1, 1, Conv, [64, 3, 1, 1, 0]]", "[-1, 1, nn.MaxPool2d, [2, 0]]",
                          "[-1, 1, nn.Upsample, [None, -1, nearest]]", "[-1, 1, SPP, [64, [0]]]"}) {
    CAPTURE(row);
    write(world().dir / "zero.yaml",
          std::string("nc: 4\ndepth_multiple: 1.0\nwidth_multiple: 0.25\nanchors:\n  - [10,13, 16,30, 33,23]\n"
                      "backbone:\n  - [-1, 1, Conv, [64, 6, 2, 2]]\n  - ") +
              row + "\nhead:\n  - [[1], 1, Detect, [nc, anchors]]\n");
    expect_error(world().train("--weights '' --cfg zero.yaml"), "yolo-train", {"zero.yaml", "layer 1"});
  }
  write(world().dir / "broken.yaml", "nc: [1\n  depth: :::\n");
  expect_error(world().train("--weights '' --cfg broken.yaml"), "yolo-train", {"broken.yaml"});
}

TEST_CASE("disk full while saving: the last good checkpoint stays") {
  const fs::path last = trained() / "weights" / "last.safetensors";
  const std::string before = slurp(last);
  // A limit on file sizes stands for a full disk: writing fails with an error code half way. The unstripped file has 28 MB.
  const Outcome outcome = world().run("trap '' XFSZ; ulimit -f 16000; " + kBin + "yolo-train --data " + world().data() +
                                      " --imgsz 64 --batch-size 4 --epochs 1 --noplots --weights '' --cfg yolov5n.yaml "
                                      "--project base --name run --exist-ok");
  expect_error(outcome, "yolo-train", {"last.safetensors"});
  CHECK(slurp(last) == before);
  CHECK(without_temporaries(trained()) == "");
}

TEST_CASE("Ctrl-C: one line, a whole checkpoint, and --resume goes on to the same end") {
  const std::string flags =
      "--weights '' --cfg yolov5n.yaml --epochs 12 --imgsz 64 --batch-size 4 --noplots --workers 1 --save-period 1 "
      "--project stop --exist-ok --data " +
      world().data();
  const fs::path whole_run = world().dir / "stop" / "whole", cut_run = world().dir / "stop" / "cut",
                 last = cut_run / "weights" / "last.safetensors";
  REQUIRE(world().run(kBin + "yolo-train --name whole " + flags).code == 0);
  const Outcome cut = world().run(kBin + "yolo-train --name cut " + flags + " & pid=$!; for i in $(seq 600); do test -f " +
                                  last.string() + " && break; sleep 0.05; done; kill -INT $pid; wait $pid");
  expect_error(cut, "yolo-train", {"interrupted", "--resume"});
  CHECK(without_temporaries(world().dir / "stop") == "");
  REQUIRE(fs::exists(last));
  const double seconds_before =
      nlohmann::json::parse(frost::read_safetensors(last).metadata.at("frost.costs")).at("train_seconds");
  CHECK(seconds_before > 0);
  if (frost::testing::on_cpu())  // the device is taken from the command line, and there is none
    expect_error(world().run(kBin + "yolo-train --resume " + last.string() + " --device cuda"), "yolo-train",
                 {"--device cuda: CUDA is not usable"});
  // From another folder, with a relative path: the run's own folder says what is trained, the command line may say on what.
  const Outcome resumed = world().run("cd stop/cut/weights && " + kBin +
                                      "yolo-train --resume last.safetensors --img 96 --epochs 2 --workers 0 --cache "
                                      "--no-cuda-graph --no-recompute");
  CAPTURE(resumed.err);
  REQUIRE(resumed.code == 0);
  CHECK(resumed.out.find("Resuming training from") != std::string::npos);
  CHECK(resumed.out.starts_with("WARNING: --resume goes on with the run's own options; ignored: --imgsz --epochs\n"));
  for (const char* option :
       {" epochs=12,", " imgsz=64,", " workers=0,", " cache=ram,", " cuda_graph=false,", " recompute=false,"})
    CHECK_MESSAGE(resumed.out.find(option) != std::string::npos, option);
  // A resumed run equals an uninterrupted one, bit for bit: weights, averages, momentum (epoch 11 is not stripped), the
  // table; and what it cost is the whole run's.
  frost::SafetensorsFile of_whole = frost::read_safetensors(whole_run / "weights" / "epoch11.safetensors"),
                         of_cut = frost::read_safetensors(cut_run / "weights" / "epoch11.safetensors");
  for (frost::SafetensorsFile* file : {&of_whole, &of_cut}) CHECK(file->metadata.erase("frost.costs") == 1);  // times
  CHECK((of_whole.metadata == of_cut.metadata));
  CHECK(std::equal(of_whole.tensors.begin(), of_whole.tensors.end(), of_cut.tensors.begin(), of_cut.tensors.end()));
  const frost::RunSummary whole = frost::read_run_summary(whole_run), sum = frost::read_run_summary(cut_run);
  CHECK(whole.epochs == 12);
  CHECK(sum.epochs == whole.epochs);
  CHECK(sum.steps == whole.steps);
  CHECK(sum.train_seconds > seconds_before);
  CHECK((slurp(whole_run / "weights" / "last.safetensors") == slurp(last)));
  CHECK(slurp(whole_run / "results.csv") == slurp(cut_run / "results.csv"));
  CHECK_FALSE(of_whole.tensors.empty());
  // A finished run has nothing to resume.
  expect_error(world().run(kBin + "yolo-train --resume " + last.string()), "yolo-train", {"nothing to resume"});
}

TEST_CASE("weights of other classes, and validation with the wrong data") {
  const fs::path two = world().dir / "two";
  fs::copy(world().dir / "shapes", two, fs::copy_options::recursive);
  write(two / "two.yaml", "path: .\ntrain: images/train\nval: images/val\nnames: [a, b]\n");
  expect_error(world().val("--weights " + (trained() / "weights" / "best.safetensors").string() + " --data " +
                           (two / "two.yaml").string()),
               "yolo-val", {"(4 classes)", "(2 classes)"});
  expect_error(world().train("--weights '' --cfg yolov5n.yaml --freeze 99"), "yolo-train", {"--freeze", "99"});
}

TEST_CASE("--device cuda on a machine without it: one line, exit code 1, in every tool that has the flag; auto goes on") {
  // Tools that need more than the flag to come as far as choosing their device.
  const std::map<std::string, std::string> needed{{"classify-predict", "--weights none.pt --source none.jpg"},
                                                  {"classify-train", "--data none"},
                                                  {"classify-val", "--weights none.pt --data none"},
                                                  {"yolo-explain", "--cfg yolov5n.yaml"},
                                                  {"yolo-prune", "--weights none.pt --save none.safetensors"}};
  const frost::CudaResult cuda = frost::load_cuda({});
  const bool usable = cuda.backend != nullptr;
  int asked = 0;
  for (const auto& entry : fs::directory_iterator(kTools)) {
    const std::string tool = entry.path().filename().string();
    if (entry.path().extension() == ".so" || tool.ends_with("_test")) continue;
    if (world().run(entry.path().string() + " --help").out.find("--device ") == std::string::npos) continue;
    CAPTURE(tool);
    const std::string more = needed.contains(tool) ? " " + needed.at(tool) : "";
    ++asked;
    expect_error(world().run(entry.path().string() + more + " --device tpu"), tool,
                 {"--device tpu is none of auto, cpu, cuda, cuda:N, N"});
    expect_error(world().run(entry.path().string() + more + " --device 99"), tool, {"--device 99: CUDA is not usable: "});
    if (usable) continue;
    for (const std::string device : {"cuda", "cuda:1", "0"})
      expect_error(world().run(entry.path().string() + more + " --device " + device), tool,
                   {"--device " + device + ": CUDA is not usable: " + cuda.why_not});
  }
  CHECK(asked >= 2);
  if (usable) return;
  const Outcome automatic = world().train("--weights '' --cfg yolov5n.yaml --device auto --project device --name auto");
  CHECK(automatic.code == 0);
  CHECK(automatic.out.find("; CUDA is not usable: " + cuda.why_not + "\n") != std::string::npos);
  CHECK(world().train("--weights '' --cfg yolov5n.yaml --device cpu --project device --name cpu").out.find("CUDA") ==
        std::string::npos);
}

TEST_CASE("the CUDA library: what cannot be opened or belongs to another build is named") {
  const auto why = [](const std::string& library) {
    const Outcome outcome = world().run("FROST_CUDA_LIBRARY=" + library + " " + kBin + "yolo-val --device cuda");
    CHECK(outcome.code == 1);
    return outcome.err;
  };
  CHECK(why("/no/such/libfrost_cuda.so").find("CUDA is not usable: /no/such/libfrost_cuda.so not found") !=
        std::string::npos);
  write(world().dir / "text.so", "not a library");
  CHECK(why((world().dir / "text.so").string()).find("text.so") != std::string::npos);
  CHECK(why("libm.so.6").find("CUDA is not usable: libm.so.6 belongs to another build of frost") != std::string::npos);
  const std::string real = (kTools / frost::kCudaLibrary).string();
  if (!fs::exists(real)) return;  // a build without CUDA
  // The real library, with cuDNN and cuBLAS, on this machine: it answers, by itself.
  const frost::CudaResult cuda = frost::load_cuda({});
  if (cuda.backend) return;
  CHECK(why(real).find("CUDA is not usable: no NVIDIA driver\n") != std::string::npos);
}
