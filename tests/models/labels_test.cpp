#include "models/yolo/data/labels.h"

#include <doctest/doctest.h>
#include <sys/stat.h>

#include <chrono>
#include <cmath>

#include "kernels/error.h"
#include "models/yolo/data/data_config.h"
#include "tests/golden/golden.h"
#include "tests/models/temp_dataset.h"

namespace frost::yolo {
namespace {

namespace fs = std::filesystem;
using Rows = std::vector<LabelRow>;

std::string reason(const std::string& text) {
  try {
    parse_labels(text);
  } catch (const Error& e) {
    return e.what();
  }
  return "fine";
}

/// One image with one label file, scanned.
struct OneImage {
  test::TempDir dir;
  std::string image = dir.picture("images/a.png", 20, 30), label = (dir / "labels/a.txt").string();
  LabelSet scan() const {
    dir.picture("images/z.png", 12, 12);  // so that the set is never empty; it has no label file
    return scan_labels({(dir / "images").string()});
  }
};

std::string stem(const std::string& path) { return fs::path(path).stem().string(); }

}  // namespace

TEST_CASE("labels: from an image's path to its label file's") {
  CHECK(label_path("/a/images/b/images/c.d.jpg") == "/a/images/b/labels/c.d.txt");
  CHECK(label_path("./images/x.jpg") == "./labels/x.txt");
  CHECK(label_path("images/x.jpg") == "images/x.txt");
  CHECK(label_path("/a/imgs/x.jpg") == "/a/imgs/x.txt");
}

TEST_CASE("labels: which images a folder or a list holds") {
  const test::TempDir dir;
  for (const std::string name :
       {"set/b.JPG", "set/sub/a.jpeg", "set/c.txt", "set/.hidden.jpg", "set/.git/d.jpg", "set/noext", "set/x.y.PnG",
        "set/e.dng", "set/f.mpo", "set/g.tif", "set/h.tiff", "set/i.webp", "set/j.pfm", "set/k.bmp", "set/l.gif"})
    dir.write(name, "");
  fs::create_directories(dir / "set/folder.jpg");
  std::vector<std::string> names;
  for (const auto& file : list_images({(dir / "set").string()})) names.push_back(file.substr(dir.string().size() + 5));
  CHECK(names == std::vector<std::string>{"b.JPG", "e.dng", "f.mpo", "g.tif", "h.tiff", "i.webp", "j.pfm", "k.bmp",
                                          "sub/a.jpeg", "x.y.PnG"});

  const std::string list = dir.write("lists/some.txt", "\n./b.jpg\r\n../c.png\n/abs/a.jpg\n./sub/./d.jpg\nnotes.txt\n\n");
  CHECK(list_images({list}) == std::vector<std::string>{"../c.png", "/abs/a.jpg", (dir / "lists/b.jpg").string(),
                                                        (dir / "lists/sub/./d.jpg").string()});
  CHECK(list_images({list, (dir / "set/sub").string()}).size() == 5);

  CHECK_THROWS_WITH_AS(list_images({"/no/such"}, "train: "),
                       "train: Error loading data from /no/such: /no/such does not exist. See "
                       "https://github.com/ultralytics/yolov5/wiki/Train-Custom-Data",
                       Error);
  fs::create_directories(dir / "empty");
  CHECK_THROWS_AS(list_images({(dir / "empty").string()}), Error);
}

TEST_CASE("labels: rows") {
  CHECK(parse_labels("").rows.empty());
  CHECK(parse_labels(" \n\t\r\n").rows.empty());
  CHECK(parse_labels("0 .5 0.5 1 1e-1\r\n\n2.7\t0 0 +0.25 0\n").rows ==
        Rows{{0, 0.5f, 0.5f, 1, 0.1f}, {2.7f, 0, 0, 0.25f, 0}});
  CHECK(parse_labels("0 0.1 1e-400 0.2 0.3").rows == Rows{{0, 0.1f, 0, 0.2f, 0.3f}});
  CHECK(reason("0 .5 .5 .5 .5\n \n0 .1 .5 .5 .5") == "row 2 is blank");
  CHECK(reason("0 .5 .5 .5 .5\n0 .1 .5 .5") == "row 2 has 4 columns, row 1 has 5");
  CHECK(reason("0 .5 .5 .5") == "labels require 5 columns, 4 columns detected");
  CHECK(reason("0 .5 .5 .5 .5 .9") == "labels require 5 columns, 6 columns detected");
  CHECK(reason("0 .5 .5 .5 half") == "'half' in row 1 is not a number");
  CHECK(reason("0 .5 .5 .5 0.5x") == "'0.5x' in row 1 is not a number");
  CHECK(reason("0 .5 .5 .5 +-0.5") == "'+-0.5' in row 1 is not a number");
  CHECK(reason("-1 .5 .5 .5 .5") == "negative label values [-1]");
  CHECK(reason("0 .5 -.25 .5 nan") == "negative label values [-0.25 nan]");
  CHECK(reason("0 1 1.5 2 .5") == "non-normalized or out of bounds coordinates [1.5 2]");
  CHECK(reason("0 inf .5 .5 .5") == "non-normalized or out of bounds coordinates [inf]");
  CHECK(reason("0 1e999 .5 .5 .5") == "non-normalized or out of bounds coordinates [inf]");
  CHECK(reason("9000 .5 .5 .5 .5") == "fine");  // the class is checked when training begins
  CHECK(reason(std::string("0 .5 .5\0 .5 .5", 14)).find("is not a number") != std::string::npos);
}

TEST_CASE("labels: duplicates go, and then rows are in order") {
  const Labels kept = parse_labels("2 .1 .1 .1 .1\n1 .9 .1 .1 .1\n2 .1 .1 .1 .1\n1 .2 .1 .1 .1\n2 0.100 .1 .1 .1");
  CHECK(kept.duplicates == 2);
  CHECK(kept.rows == Rows{{1, 0.2f, 0.1f, 0.1f, 0.1f}, {1, 0.9f, 0.1f, 0.1f, 0.1f}, {2, 0.1f, 0.1f, 0.1f, 0.1f}});
  const Labels plain = parse_labels("2 .1 .1 .1 .1\n1 .9 .1 .1 .1");
  CHECK(plain.duplicates == 0);
  CHECK(plain.rows[0].cls == 2);  // file order
}

TEST_CASE("labels: polygons") {
  const Labels two = parse_labels("3 .1 .2 .5 .2 .5 .8 .1 .6\n1 0.25 0.5 .75 1");
  CHECK(two.rows[0] == LabelRow{3, (0.1f + 0.5f) / 2, (0.2f + 0.8f) / 2, 0.5f - 0.1f, 0.8f - 0.2f});
  CHECK(two.rows[1] == LabelRow{1, 0.5f, 0.75f, 0.5f, 0.5f});  // a box row among polygons is read as two points
  CHECK(two.segments[0] == Segment{0.1f, 0.2f, 0.5f, 0.2f, 0.5f, 0.8f, 0.1f, 0.6f});
  CHECK(two.segments[1] == Segment{0.25f, 0.5f, 0.75f, 1});
  CHECK(reason("1 .1 .2 .3 .4 .5 .6 .7") == "row 1: a class and pairs of x y are expected, not 8 values");
  CHECK(reason("1 .1 .2 .3 .4 .5 .6\n1") == "row 2: a class and pairs of x y are expected, not 1 values");
  // The box of a polygon that lies outside is what is looked at: its centre here.
  CHECK(reason("1 1.5 .2 1.5 .4 1.5 .6") == "non-normalized or out of bounds coordinates [1.5]");
  CHECK(reason("1 nan .2 .3 .4 .5 .6").starts_with("negative label values [nan"));
  CHECK(reason("1 .3 .2 nan .4 .5 .6").starts_with("negative label values [nan"));

  const Labels unique =
      parse_labels("5 .1 .1 .3 .3 .1 .3\n4 .5 .5 .6 .6 .5 .6\n5 .1 .1 .3 .1 .3 .3");  // 0 and 2: one box, two polygons
  CHECK(unique.duplicates == 1);
  REQUIRE(unique.segments.size() == 2);
  CHECK(unique.segments[0][0] == 0.5f);
  CHECK(unique.segments[1] == Segment{0.1f, 0.1f, 0.3f, 0.3f, 0.1f, 0.3f});  // the first occurrence's
}

TEST_CASE("labels: what is counted") {
  struct Row {
    std::string label;
    bool with_file;
    LabelCounts counts;
  };
  const std::vector<Row> table = {
      {"", false, {.found = 0, .missing = 2, .empty = 0, .corrupt = 0, .total = 2}},
      {"\n", true, {.found = 1, .missing = 1, .empty = 1, .corrupt = 0, .total = 2}},
      {"0 .5 .5 .5 .5", true, {.found = 1, .missing = 1, .empty = 0, .corrupt = 0, .total = 2}},
      {"0 .5 .5 .5", true, {.found = 1, .missing = 1, .empty = 0, .corrupt = 1, .total = 2}},
  };
  for (const Row& row : table) {
    OneImage one;
    if (row.with_file) one.dir.write("labels/a.txt", row.label);
    CAPTURE(row.label);
    const LabelSet set = one.scan();
    CHECK(set.counts == row.counts);
    CHECK(set.images.size() == static_cast<std::size_t>(2 - row.counts.corrupt));
  }
}

TEST_CASE("labels: images that cannot be used are left out, with the reason") {
  const test::TempDir dir;
  const std::string good = dir.picture("images/good.jpg", 16, 24), cut = dir.picture("images/cut.jpg", 40, 40);
  fs::resize_file(cut, fs::file_size(cut) - 2);
  dir.write("labels/good.txt", "0 .5 .5 .5 .5\n0 .5 .5 .5 .5");
  const std::string small = dir.picture("images/small.png", 20, 9), ten = dir.picture("images/ten.png", 10, 10);
  const std::string text = dir.write("images/text.jpg", "this is no picture"), empty = dir.write("images/zero.png", "");
  const std::string gif = dir.write("images/gif.jpg", std::string("GIF89a\x14\0\x14\0\0\0\0;", 14));
  const std::string bad = dir.picture("images/bad.png", 20, 20);
  dir.write("labels/bad.txt", "0 .5 .5 .5 5");
  for (const int o : {1, 3, 5, 6, 7, 8})
    dir.write("images/turned" + std::to_string(o) + ".jpg", test::jpeg_with_orientation(20, 30, o));

  const LabelSet set = scan_labels({(dir / "images").string()}, {.prefix = "train: "});
  CHECK(set.counts == LabelCounts{.found = 2, .missing = 8, .empty = 0, .corrupt = 5, .total = 14});
  const auto message = [&](const std::string& image) {
    for (const auto& m : set.messages)
      if (const std::string head = "train: WARNING ⚠️ " + image + ": "; m.starts_with(head))
        return m.substr(head.size());
    return std::string();
  };
  CHECK(message(small) == "ignoring corrupt image/label: image size (9, 20) <10 pixels");
  CHECK(message(gif) == "ignoring corrupt image/label: invalid image format gif");
  CHECK(message(bad) == "ignoring corrupt image/label: non-normalized or out of bounds coordinates [5]");
  CHECK(message(text).starts_with("ignoring corrupt image/label: "));
  CHECK(message(text).find(text) == std::string::npos);  // the file is named once
  CHECK(message(empty).starts_with("ignoring corrupt image/label: "));
  CHECK(message(good) == "1 duplicate labels removed");
  CHECK(message(cut) == "JPEG has no end marker (cut off?), kept as it is");
  CHECK(message(ten) == "");
  for (const LabeledImage& image : set.images)
    if (const auto name = stem(image.path); name.starts_with("turned")) {
      CAPTURE(name);
      const bool turned = name == "turned6" || name == "turned8";  // not 5 and 7, as YOLOv5
      CHECK(image.width == (turned ? 20 : 30));
      CHECK(image.height == (turned ? 30 : 20));
    }
}

TEST_CASE("labels: threads change nothing") {
  if (!golden::have("data/coco128")) return;
  const std::vector<std::string> paths = {(golden::shared_dir() / "data/coco128/images/train2017").string()};
  std::vector<Rows> seen[2];
  for (const int threads : {1, 4}) {
    const test::TempDir cache;
    for (const auto& image : scan_labels(paths, {.cache_dir = cache.string(), .threads = threads}).images)
      seen[threads == 4].push_back(image.rows);
  }
  CHECK(seen[0] == seen[1]);
}

TEST_CASE("labels: the cache is used while the files are the same") {
  OneImage one;
  one.dir.write("labels/a.txt", "1 .5 .5 .25 .25\n1 .5 .5 .25 .25\n3 .1 .1 .2 .1 .2 .2");
  const LabelSet first = one.scan();
  CHECK(!first.from_cache);
  CHECK(first.cache_path == one.dir / "labels.frost-cache");
  const LabelSet again = one.scan();
  // OneImage::scan writes z.png anew: another time, so it is read again. From here on the folder is left alone.
  const auto scan = [&] { return scan_labels({(one.dir / "images").string()}); };
  const LabelSet second = scan();
  CHECK(second.from_cache);
  CHECK(second.counts == first.counts);
  CHECK(second.messages == first.messages);
  REQUIRE(second.images.size() == first.images.size());
  for (std::size_t i = 0; i < first.images.size(); ++i) {
    CHECK(second.images[i].path == first.images[i].path);
    CHECK(second.images[i].width == first.images[i].width);
    CHECK(second.images[i].height == first.images[i].height);
    CHECK(second.images[i].rows == first.images[i].rows);
    CHECK(second.images[i].segments == first.images[i].segments);
  }
  CHECK(std::distance(fs::directory_iterator(one.dir.string()), {}) == 3);  // images, labels, cache: no temporary file stays

  one.dir.write("labels/a.txt", "2 .5 .5 .25 .25\n1 .5 .5 .25 .25\n3 .1 .1 .2 .1 .2 .2");  // same size, other class
  fs::last_write_time(one.label, fs::last_write_time(one.label) + std::chrono::seconds(1));
  const LabelSet changed = scan();
  CHECK(!changed.from_cache);
  CHECK(changed.images[0].rows.size() == 3);
  CHECK(scan().from_cache);
  one.dir.write("labels/z.txt", "");
  CHECK(!scan().from_cache);  // a label file appeared
  fs::remove(one.label);
  CHECK(!scan().from_cache);  // or went
  one.dir.picture("images/b.png", 20, 20);
  CHECK(!scan().from_cache);  // or an image came
}

TEST_CASE("labels: a corrupt cache is rebuilt, whatever the corruption") {
  OneImage one;
  one.dir.write("labels/a.txt", "1 .5 .5 .25 .25\n3 .1 .1 .2 .1 .2 .2");
  const LabelSet first = one.scan();
  const auto scan = [&] { return scan_labels({(one.dir / "images").string()}); };
  std::ifstream in(first.cache_path, std::ios::binary);
  const std::string good((std::istreambuf_iterator<char>(in)), {});
  const auto try_bytes = [&](const std::string& bytes) {
    std::ofstream(first.cache_path, std::ios::binary) << bytes;
    const LabelSet set = scan();
    return set.from_cache == (bytes == good) && set.images.size() == 2 && set.images[0].rows == first.images[0].rows &&
           set.messages == first.messages;
  };
  CHECK(try_bytes(good));
  for (std::size_t size = 0; size < good.size(); ++size) CHECK(try_bytes(good.substr(0, size)));
  CHECK(try_bytes(good + "x"));
  for (std::size_t at = 0; at < good.size(); ++at) {
    if (at >= 12 && at < 16) continue;  // reserved
    std::string bytes = good;
    bytes[at] = static_cast<char>(bytes[at] ^ 0x40);
    CHECK(try_bytes(bytes));
  }
}

TEST_CASE("labels: a cache whose check sum was made to fit is not believed either") {
  OneImage one;
  one.dir.write("labels/a.txt", "1 .5 .5 .25 .25\n3 .1 .1 .2 .1 .2 .2");
  const LabelSet first = one.scan();
  std::ifstream in(first.cache_path, std::ios::binary);
  const std::string good((std::istreambuf_iterator<char>(in)), {});
  constexpr std::size_t kHeader = 40;
  for (std::size_t at = kHeader; at < good.size(); ++at) {
    std::string bytes = good;
    bytes[at] = static_cast<char>(0xff);
    std::uint64_t sum = 0xcbf29ce484222325ULL;
    for (std::size_t i = kHeader; i < bytes.size(); ++i)
      sum = (sum ^ static_cast<unsigned char>(bytes[i])) * 0x100000001b3ULL;
    std::memcpy(bytes.data() + 32, &sum, 8);
    std::ofstream(first.cache_path, std::ios::binary) << bytes;
    const LabelSet set = scan_labels({(one.dir / "images").string()});  // must end, without huge memory, with usable labels
    for (const auto& image : set.images)
      for (const auto& row : image.rows) CHECK((row.x >= 0 && row.x <= 1 && row.w >= 0 && row.w <= 1));
  }
}

TEST_CASE("labels: where the cache goes") {
  OneImage one;
  one.dir.write("labels/a.txt", "1 .5 .5 .25 .25");
  const test::TempDir caches;
  const std::string images = (one.dir / "images").string(), list = one.dir.write("some.v2.txt", "./images/a.png\n");
  CHECK(scan_labels({list}).cache_path == one.dir / "some.v2.frost-cache");
  const auto apart = scan_labels({images}, {.cache_dir = caches.string()});
  CHECK(fs::path(apart.cache_path).parent_path() == caches.string());
  CHECK(scan_labels({images}, {.cache_dir = caches.string()}).from_cache);
  CHECK(!fs::exists(one.dir / "labels.frost-cache"));

  const auto nowhere = scan_labels({images}, {.cache_dir = (caches / "not/there").string(), .prefix = "val: "});
  REQUIRE(nowhere.messages.size() == 1);
  CHECK(nowhere.messages[0] == "val: WARNING ⚠️ Cache directory " + (caches / "not/there").string() +
                                   " is not writeable: No such file or directory");
  CHECK(nowhere.images.size() == 1);
}

TEST_CASE("labels: what training refuses") {
  OneImage one;
  const auto refusal = [&](int classes) -> std::string {
    try {
      check_trainable(one.scan(), classes, "data.yaml");
      return "";
    } catch (const Error& e) {
      return e.what();
    }
  };
  const std::string cache = (one.dir / "labels.frost-cache").string();
  CHECK(refusal(3).starts_with("No labels found in " + cache + ", can not start training."));
  one.dir.write("labels/a.txt", "");
  CHECK(refusal(3).starts_with("All labels empty in " + cache + ", can not start training."));
  one.dir.write("labels/a.txt", "0 .5 .5 .5 .5\n9.9 .5 .5 .5 .5");
  CHECK(refusal(3) == "Label class 9.9 exceeds nc=3 in data.yaml. Possible class labels are 0-2 (" + one.label + ")");
  CHECK(refusal(9) == "Label class 9.9 exceeds nc=9 in data.yaml. Possible class labels are 0-8 (" + one.label + ")");
  CHECK(refusal(10) == "");
}

TEST_CASE("labels: a class is named as its file has it, a box by as many digits as tell it") {
  OneImage one;
  const auto refusal = [&] {
    try {
      check_classes(one.scan(), 4, "data.yaml");
    } catch (const Error& e) {
      return std::string(e.what());
    }
    return std::string();
  };
  for (const std::string cls : {"99999999999", "3e38", "1e39", "4", "16777217", "4.25"}) {
    one.dir.write("labels/a.txt", "1 .5 .5 .5 .5\n" + cls + " .5 .5 .5 .5\n3 .5 .5 .5 .5");
    for (const bool from_cache : {false, true})
      CHECK_MESSAGE(refusal().starts_with("Label class " + cls + " exceeds nc=4 in data.yaml."), cls, from_cache);
  }
  CHECK(reason("0 1.000001 .5 .5 .5") == "non-normalized or out of bounds coordinates [1.000001]");
  CHECK(reason("0 .5 1.0000002 .5 .5") == "non-normalized or out of bounds coordinates [1.0000002]");
  CHECK(reason("0 .5 .5 .5 -1e-9") == "negative label values [-1e-09]");
  CHECK(reason("0 12345.67 .5 .5 640") == "non-normalized or out of bounds coordinates [12345.67 640]");
}

TEST_CASE("labels: what is no file, and git-lfs pointers") {
  OneImage one;
  const fs::path label = one.label;
  fs::create_directories(label.parent_path());
  const auto message = [&] {
    const LabelSet set = one.scan();
    CHECK(set.counts.corrupt == 0);
    CHECK(set.counts.missing == 2);
    CHECK(set.images.size() == 2);
    for (const std::string& m : set.messages)
      if (m.find(one.label) != m.npos) return m;
    return std::string();
  };
  CHECK(message() == "");  // no label: nothing to say
  CHECK_NOTHROW(check_not_corrupt(one.scan()));
  fs::create_directory(label);
  CHECK_THROWS_WITH_AS(check_not_corrupt(one.scan()), doctest::Contains(" is a folder, not a regular file"), Error);
  CHECK(message().find("its label " + one.label + " is a folder, not a regular file") != std::string::npos);
  fs::remove(label);
  REQUIRE(::mkfifo(label.c_str(), 0600) == 0);
  CHECK(message().find(" is a pipe,") != std::string::npos);
  fs::remove(label);
  fs::create_symlink("nowhere", label);
  CHECK(message().find(" is a link to nothing,") != std::string::npos);
  fs::remove(label);
  fs::create_symlink("/dev/null", label);
  CHECK(message().find(" is a device,") != std::string::npos);
  fs::remove(label);

  const std::string pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 99\n";
  std::ofstream(label) << pointer;
  CHECK(one.scan().messages.at(0).find(one.label + ": is a git-lfs pointer") != std::string::npos);
  fs::remove(label);
  one.dir.write("images/b.jpg", pointer);
  REQUIRE(::mkfifo((one.dir / "images/c.jpg").c_str(), 0600) == 0);  // nobody waits for its other end
  const LabelSet set = one.scan();
  CHECK(set.counts.corrupt == 2);
  CHECK(set.messages.at(0).find("b.jpg: ignoring corrupt image/label: is a git-lfs pointer") != std::string::npos);
  CHECK(set.messages.at(1).find("c.jpg: ignoring corrupt image/label: not a regular file") != std::string::npos);
  const std::string list = one.dir.write("list.txt", pointer);
  CHECK_THROWS_WITH_AS(list_images({list}), doctest::Contains("git-lfs pointer"), Error);
}

TEST_CASE("labels: folders behind links are looked through once, loops are not followed") {
  const test::TempDir dir;
  const std::vector<std::string> real = {dir.picture("images/a/one.png", 12, 12), dir.picture("images/b/two.png", 12, 12)};
  fs::create_directory_symlink("..", dir / "images/a/up");
  fs::create_directory_symlink("../..", dir / "images/a/outer");
  fs::create_directory_symlink(".", dir / "images/b/self");
  fs::create_directory_symlink("../b", dir / "images/a/other");  // two that hold each other
  fs::create_directory_symlink("../a", dir / "images/b/other");
  fs::create_directory_symlink("a", dir / "images/0");  // the path without links counts
  fs::create_symlink("nowhere", dir / "images/nothing");
  CHECK(list_images({(dir / "images").string()}) == real);
  dir.picture("disk/deep/three.png", 12, 12);
  fs::create_directory_symlink(dir / "disk", dir / "images/y");
  fs::create_directory_symlink(dir / "disk/deep", dir / "images/z");
  fs::create_directory_symlink(dir / "images", dir / "disk/back");
  std::vector<std::string> all = real;
  all.push_back((dir / "images/y/deep/three.png").string());
  CHECK(list_images({(dir / "images").string()}) == all);
  fs::create_directory_symlink(dir / "images", dir / "linked");  // the folder itself may be a link
  CHECK(list_images({(dir / "linked").string()}).size() == 3);
}

TEST_CASE("labels: lists as people write them") {
  const test::TempDir dir;
  for (const std::string name : {"a", "b", "c", "d"}) dir.picture("images/" + name + ".png", 12, 12);
  const std::vector<std::string> all = list_images({(dir / "images").string()});
  REQUIRE(all.size() == 4);
  const std::string a = "./images/a.png", b = "./images/b.png", c = "./images/c.png", d = "./images/d.png";
  std::vector<std::string> messages;
  for (const std::string& text :
       {a + " \n" + b + "\t\n" + c + "  \n" + d, a + "\r" + b + "\r" + c + "\r" + d + "\r",
        "\xef\xbb\xbf" + a + "\r\n" + b + "\r\n\r\n" + c + "\r\n  " + d, a + "\n \n" + b + "\n\t\n" + c + "\n" + d}) {
    CHECK(list_images({dir.write("list.txt", text)}, "", &messages) == all);
    CHECK(messages.empty());
  }
  const std::string list = dir.write("list.txt", a + "\nimages/b.doc\n" + c + "\nREADME\n");
  CHECK(list_images({list}, "", &messages).size() == 2);
  REQUIRE(messages.size() == 1);
  CHECK(messages[0] == "WARNING ⚠️ " + list +
                           ": 2 lines name no image by their ending and are left out, the first: "
                           "'images/b.doc'");
  for (const bool from_cache : {false, true}) {  // said each time
    const LabelSet set = scan_labels({list}, {.prefix = "val: "});
    CHECK(set.from_cache == from_cache);
    CHECK(set.messages.at(0) == "val: " + messages[0]);
  }
}

TEST_CASE("labels: what systems leave among pictures is not read") {
  const test::TempDir dir;
  for (const std::string name :
       {"images/a.png", "images/._a.png", "images/.ipynb_checkpoints/a-checkpoint.png", "images/__MACOSX/a.png",
        "images/__MACOSX/images/._a.png", "images/sub/__MACOSX/b.png", "images/sub/b.png", "images/.hidden/c.png"})
    dir.picture(name, 12, 12);
  dir.write("images/Thumbs.db", "x"), dir.write("images/desktop.ini", "x");
  CHECK(list_images({(dir / "images").string()}) ==
        std::vector<std::string>{(dir / "images/a.png").string(), (dir / "images/sub/b.png").string()});
}

TEST_CASE("labels: a folder that is named twice has its files twice, and its cache is taken") {
  OneImage one;
  one.dir.write("labels/a.txt", "1 .5 .5 .25 .25");
  one.dir.write("images/b.png", "no picture");
  one.dir.picture("images/c.png", 12, 12);
  const std::string images = (one.dir / "images").string();
  for (const std::vector<std::string>& paths : {std::vector{images, images}, {images, images, images}, {images}}) {
    const LabelSet first = scan_labels(paths), second = scan_labels(paths);
    CHECK(first.images.size() == 2 * paths.size());
    CHECK(!first.from_cache);
    CHECK(second.from_cache);
    CHECK(second.counts == first.counts);
    REQUIRE(second.images.size() == first.images.size());
    for (std::size_t i = 0; i < first.images.size(); ++i) CHECK(second.images[i].path == first.images[i].path);
  }
}

TEST_CASE("labels: a set without one usable image is an error") {
  const test::TempDir dir;
  const std::string image = dir.write("images/a.jpg", "no picture");
  CHECK_THROWS_AS(scan_labels({(dir / "images").string()}), Error);
}

TEST_CASE("labels: the shared data sets") {
  if (!golden::have("data")) return;
  const test::TempDir cache;
  const auto scan = [&](const std::string& folder) {
    return scan_labels({(golden::shared_dir() / "data" / folder).string()}, {.cache_dir = cache.string()});
  };
  const LabelSet coco = scan("coco128/images/train2017");
  CHECK(coco.counts == LabelCounts{.found = 126, .missing = 2, .empty = 0, .corrupt = 0, .total = 128});
  std::size_t boxes = 0;
  for (const auto& image : coco.images) boxes += image.rows.size();
  CHECK(boxes == 929);  // 941 rows, 12 of them twice
  check_trainable(coco, 80, "coco128.yaml");
  CHECK_THROWS_AS(check_trainable(coco, 79, "coco128.yaml"), Error);

  const LabelSet train = scan("bccd/images/train"), val = scan("bccd/images/val");
  CHECK(train.counts.total == 205);
  CHECK(val.counts.total == 87);
  boxes = 0;
  for (const auto& image : val.images) boxes += image.rows.size();
  CHECK(boxes == 1137);
  CHECK(train.counts.corrupt + val.counts.corrupt == 0);
}

}  // namespace frost::yolo
