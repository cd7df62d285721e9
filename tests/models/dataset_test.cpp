#include "models/yolo/data/dataset.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <map>
#include <set>

#include "engine/image/codec.h"
#include "engine/image/resize.h"
#include "kernels/error.h"
#include "models/yolo/data/batches.h"
#include "models/yolo/data/data_config.h"
#include "tests/golden/golden.h"
#include "tests/models/temp_dataset.h"

namespace frost::yolo {
namespace {

std::string stem(const std::string& path) { return std::filesystem::path(path).stem().string(); }

LabelSet coco128() {
  const test::TempDir cache;
  return scan_labels({(golden::shared_dir() / "data/coco128/images/train2017").string()}, {.cache_dir = cache.string()});
}

/// Five small pictures of several shapes, one of them without labels.
struct SmallSet {
  test::TempDir dir;
  SmallSet() {
    const int sizes[5][2] = {{40, 64}, {64, 48}, {64, 64}, {30, 50}, {77, 31}};
    for (int i = 0; i < 5; ++i) {
      const std::string name = std::string(1, static_cast<char>('a' + i));
      dir.picture("images/" + name + ".png", sizes[i][0], sizes[i][1], static_cast<std::uint64_t>(i));
      if (i != 3)
        dir.write("labels/" + name + ".txt",
                  std::to_string(i) + " 0.5 0.4 0.2 0.3\n" + std::to_string(i) + " 0.3 0.6 0.6 0.5\n");
    }
  }
  LabelSet labels() const { return scan_labels({(dir / "images").string()}); }
};

/// Everything that a batch says, in one comparable text.
std::string text_of(const DetectionBatch& b) {
  std::string text(reinterpret_cast<const char*>(b.pixels.data()), b.bytes());
  const auto add = [&](const void* data, std::size_t size) { text.append(static_cast<const char*>(data), size); };
  add(b.targets.data(), b.targets.size() * sizeof(float));
  add(b.indices.data(), b.indices.size() * sizeof(b.indices[0]));
  for (const ItemInfo& info : b.infos) add(&info, sizeof info);
  for (const std::string& path : b.paths) text += path + "\n";
  return text;
}

}  // namespace

TEST_CASE("dataset: rectangular shapes") {
  const auto one = [](std::vector<double> ratios, int imgsz, double pad) {
    return rect_shapes(ratios, 16, imgsz, 32, pad).at(0);
  };
  CHECK(one({0.5, 0.75}, 640, 0.5) == Shape2{512, 672});
  CHECK(one({0.75}, 640, 0) == Shape2{480, 640});
  CHECK(one({0.75, 1}, 640, 0.5) == Shape2{672, 672});  // 1 is on neither side
  CHECK(one({0.75, 1.5}, 640, 0.5) == Shape2{672, 672});
  CHECK(one({1.25, 2}, 640, 0.5) == Shape2{672, 544});  // 1 / 1.25 * 20 + 0.5 = 16.5
  CHECK(one({2}, 320, 0) == Shape2{320, 160});
  CHECK(rect_shapes(std::vector<double>{0.5, 0.6, 1.5}, 2, 640, 32, 0.5) == std::vector<Shape2>{{416, 672}, {672, 448}});
}

TEST_CASE("dataset: coco128 in the shapes in which the reference evaluated it") {
  if (!golden::have("data/coco128")) return;
  std::ifstream file(golden::dir() / "coco128_yolov5n.json");
  const auto reference = nlohmann::json::parse(file);
  const LabelSet labels = coco128();
  std::map<std::string, double> ratio;
  for (const LabeledImage& image : labels.images) ratio[stem(image.path)] = static_cast<double>(image.height) / image.width;

  for (const int imgsz : {640, 320}) {
    const auto& golden = reference["val_" + std::to_string(imgsz)];
    const std::vector<std::string> order = golden["evaluation_order"];
    std::vector<double> ratios;
    for (const auto& name : order) ratios.push_back(ratio.at(name));
    CHECK(std::ranges::is_sorted(ratios));
    const auto shapes = rect_shapes(ratios, 16, imgsz, 32, 0.5);
    REQUIRE(order.size() == 128);
    for (std::size_t i = 0; i < order.size(); ++i) {
      CHECK(shapes[i / 16].height == golden["per_image"][order[i]][0]);
      CHECK(shapes[i / 16].width == golden["per_image"][order[i]][1]);
    }

    // Our sort is stable, theirs is not: the reference says how much that changes.
    const DetectionDataset data(labels, {.imgsz = imgsz, .pad = 0.5, .rect = true});
    int moved = 0, reshaped = 0;
    for (std::int64_t i = 0; i < data.size(); ++i) {
      const std::string name = stem(data.image(i).path);
      const Shape2 shape = data.batch_shape(i / 16);
      moved += name != order[static_cast<std::size_t>(i)];
      reshaped += shape.height != golden["per_image"][name][0] || shape.width != golden["per_image"][name][1];
    }
    CHECK(moved == golden["stable_aspect_sort_would_change"]["position"]);
    CHECK(reshaped == golden["stable_aspect_sort_would_change"]["evaluated_shape"]);
  }
}

TEST_CASE("dataset: the first resize can miss the size by one, as YOLOv5's does") {
  const test::TempDir dir;
  std::set<int> short_sides;
  for (int side = 60; side <= 660; ++side)
    if (static_cast<int>(side * (640.0 / side)) == 639) short_sides.insert(side);
  CHECK(short_sides == std::set<int>{77, 154, 303, 308, 319, 581, 606, 616, 623, 638});
  for (const int side : {77, 76, 303, 638, 1077}) {
    dir.picture("images/" + std::to_string(side) + ".png", 20, side);
  }
  const DetectionDataset data(scan_labels({(dir / "images").string()}), {.imgsz = 640});
  std::vector<std::uint8_t> rgb(640 * 640 * 3);
  for (std::int64_t i = 0; i < data.size(); ++i) {
    const int side = data.image(i).width;
    Item item;
    Rng rng;
    data.get(i, 0, rng, rgb.data(), item);
    CAPTURE(side);
    const int width = side == 76 ? 640 : 639;
    CHECK(item.info.ratio_w == static_cast<double>(width) / side);
    CHECK(item.info.pad_w == (640 - width) / 2.0);
  }
}

TEST_CASE("dataset: a validation item is its picture, padded, and its labels moved alike") {
  const SmallSet small;
  const DetectionDataset data(small.labels(), {.imgsz = 64, .batch_size = 2, .pad = 0.5, .rect = true});
  CHECK(data.batches() == 3);
  CHECK(stem(data.image(0).path) == "d");  // 0.6
  CHECK(stem(data.image(4).path) == "e");
  for (std::int64_t i = 0; i < data.size(); ++i) {
    const Shape2 shape = data.batch_shape(i / 2);
    const Image full = decode_image(data.image(i).path);
    const Image resized = resize_longest(full, 64, true);
    std::vector<std::uint8_t> rgb(static_cast<std::size_t>(shape.height * shape.width * 3) + 16, 201);
    Item item;
    Rng rng;
    data.get(i, i / 2, rng, rgb.data(), item);
    for (std::size_t guard = rgb.size() - 16; guard < rgb.size(); ++guard) CHECK(rgb[guard] == 201);

    // Written apart from letterbox: the picture lies at the rounded half of the spare pixels.
    const int top = static_cast<int>(std::nearbyint((shape.height - resized.height) / 2.0 - 0.1));
    const int left = static_cast<int>(std::nearbyint((shape.width - resized.width) / 2.0 - 0.1));
    int wrong = 0;
    for (int y = 0; y < shape.height; ++y)
      for (int x = 0; x < shape.width; ++x)
        for (int c = 0; c < 3; ++c) {
          const bool inside = y >= top && y < top + resized.height && x >= left && x < left + resized.width;
          const int expected = inside ? resized.at(y - top, x - left)[2 - c] : 114;
          wrong += rgb[static_cast<std::size_t>((y * shape.width + x) * 3 + c)] != expected;
        }
    CHECK(wrong == 0);

    CHECK(item.info.height0 == full.height);
    CHECK(item.info.width0 == full.width);
    CHECK(item.info.ratio_h == static_cast<double>(resized.height) / full.height);
    CHECK(item.info.ratio_w == static_cast<double>(resized.width) / full.width);
    CHECK(item.info.pad_h == (shape.height - resized.height) / 2.0);
    CHECK(item.info.pad_w == (shape.width - resized.width) / 2.0);
    const auto& rows = data.image(i).rows;
    REQUIRE(item.rows.size() == rows.size());
    for (std::size_t r = 0; r < rows.size(); ++r) {
      CHECK(item.rows[r].cls == rows[r].cls);
      // float32 arithmetic through pixels and back: a few ulp of numbers below 1
      CHECK(item.rows[r].x == doctest::Approx((rows[r].x * resized.width + item.info.pad_w) / shape.width).epsilon(1e-5));
      CHECK(item.rows[r].y == doctest::Approx((rows[r].y * resized.height + item.info.pad_h) / shape.height).epsilon(1e-5));
      CHECK(item.rows[r].w == doctest::Approx(rows[r].w * resized.width / shape.width).epsilon(1e-5));
      CHECK(item.rows[r].h == doctest::Approx(rows[r].h * resized.height / shape.height).epsilon(1e-5));
    }
  }
}

TEST_CASE("dataset: single class, batch size, index list, wrong settings") {
  const SmallSet small;
  DetectionDataset data(small.labels(), {.imgsz = 64, .batch_size = 16, .single_cls = true});
  CHECK(data.options().batch_size == 5);
  CHECK(data.batches() == 1);
  CHECK(data.batch_shape(0) == Shape2{64, 64});
  for (const auto& image : data.images())
    for (const auto& row : image.rows) CHECK(row.cls == 0);
  CHECK(data.index_list()[4] == 4);
  data.set_index_list({4, 4, 0, 1, 4});
  CHECK_THROWS_AS(data.set_index_list({0, 1}), Error);
  CHECK_THROWS_AS(data.set_index_list({0, 1, 2, 3, 5}), Error);
  CHECK_THROWS_AS(DetectionDataset(small.labels(), {.imgsz = 0}), Error);
  CHECK_THROWS_AS(DetectionDataset(LabelSet{}, {}), Error);
}

TEST_CASE("dataset: a file that goes bad after the scan") {
  const SmallSet small;
  const std::string jpeg = small.dir.picture("images/x.jpg", 100, 100);
  std::filesystem::resize_file(jpeg, std::filesystem::file_size(jpeg) * 2 / 3);  // cut, but some of it can be seen
  const DetectionDataset data(small.labels(), {.imgsz = 64, .batch_size = 2});
  std::vector<std::uint8_t> rgb(64 * 64 * 3);
  Item item;
  Rng rng;
  data.get(5, 0, rng, rgb.data(), item);
  data.get(5, 0, rng, rgb.data(), item);
  const auto warnings = data.take_warnings();
  REQUIRE(warnings.size() == 1);  // once for each file
  CHECK(warnings[0].starts_with(jpeg + ": "));
  CHECK(data.take_warnings().empty());
}

TEST_CASE("dataset: a picture that cannot be decoded costs itself, the same for any number of threads") {
  const SmallSet small;
  LabelSet labels = small.labels();
  for (const int bad : {1, 2}) {  // since the scan; b and c
    const std::string path = labels.images[static_cast<std::size_t>(bad)].path;
    std::ofstream(path, std::ios::binary | std::ios::trunc) << "no picture any more";
  }
  const auto batches_of = [&](bool augment, int threads, bool cached, std::vector<std::string>* warnings) {
    const auto data =
        std::make_shared<DetectionDataset>(labels, DatasetOptions{.imgsz = 64, .batch_size = 2, .augment = augment});
    if (cached) CHECK(data->cache_images(threads, "", {.available = 1e12, .total = 1e12}) == "");
    const auto loader = make_loader(data, {.seed = 3, .shuffle = augment, .threads = threads});
    std::vector<std::string> texts;
    std::int64_t images = 0;
    for (const int epoch : {0, 1, 2})
      for (loader->start(epoch); const DetectionBatch* b = loader->next();) {
        texts.push_back(text_of(*b));
        images += b->n;
        CHECK(static_cast<std::int64_t>(b->paths.size()) == b->n);
        for (std::size_t t = 0; t < b->targets.size(); t += 6) CHECK(static_cast<std::int64_t>(b->targets[t]) < b->n);
      }
    CHECK(images == 3 * (augment ? 5 : 3));  // replaced in training, left out in validation
    *warnings = data->take_warnings();
    std::ranges::sort(*warnings);
    CHECK(!data->first_fault().empty());
    return texts;
  };
  for (const bool augment : {false, true}) {
    std::vector<std::string> first_warnings;
    const auto first = batches_of(augment, 0, false, &first_warnings);
    REQUIRE(first_warnings.size() == 2);  // once for each, however often they are drawn
    for (const std::size_t i : {0u, 1u})
      CHECK(first_warnings[i] == labels.images[i + 1].path + ": not an image (unknown format)");
    for (const int threads : {1, 2, 5})
      for (const bool cached : {false, true}) {
        std::vector<std::string> warnings;
        CHECK((batches_of(augment, threads, cached, &warnings) == first));
        CHECK(warnings == first_warnings);
      }
  }
  // In training d stands for b and c: with d in their place the batches are the same.
  LabelSet replaced = labels;
  for (const std::size_t i : {1u, 2u}) replaced.images[i] = labels.images[3];
  const auto pixels = [](const LabelSet& set) {
    const DetectionDataset data(set, {.imgsz = 64, .batch_size = 2, .augment = true});
    std::string all(64 * 64 * 3, ' ');
    std::string text;
    for (std::int64_t i = 0; i < 5; ++i) {
      Item item;
      Rng rng(7, 0, static_cast<std::uint64_t>(i));
      data.get(i, 0, rng, reinterpret_cast<std::uint8_t*>(all.data()), item);
      text += all + std::to_string(item.rows.size());
    }
    return text;
  };
  CHECK((pixels(labels) == pixels(replaced)));

  for (const LabeledImage& image : labels.images) std::filesystem::remove(image.path);
  const auto none = std::make_shared<DetectionDataset>(labels, DatasetOptions{.imgsz = 64, .augment = true});
  const auto loader = make_loader(none, {.threads = 2});
  loader->start(0);
  CHECK_THROWS_WITH_AS(loader->next(), doctest::Contains("none of 5 images can be decoded; the first: "), Error);
}

TEST_CASE("dataset: images in memory give the same batches") {
  const SmallSet small;
  for (const bool augment : {false, true}) {
    const auto make = [&] {
      return std::make_shared<DetectionDataset>(small.labels(),
                                                DatasetOptions{.imgsz = 64, .batch_size = 3, .augment = augment});
    };
    const auto read = make(), kept = make();
    // What each picture comes to, by hand.
    const double bytes = 3 * (40 * 64. + 64 * 48 + 64 * 64 + 64 * 38.4 + 64 * 64 * 31. / 77);
    CHECK(kept->cache_bytes() == doctest::Approx(bytes));
    const Memory little{.available = bytes * 1.09, .total = 3e9};
    CHECK(kept->cache_images(2, "train: ", little) ==
          "train: 0.0GB RAM required, 0.0/2.8GB available, not caching images ⚠️");
    double last = 0;
    CHECK(kept->cache_images(2, "", host_memory(), [&](auto, auto, double so_far) { last = so_far; }) == "");
    CHECK(last == doctest::Approx(bytes).epsilon(0.05));  // sides are truncated to whole pixels
    const auto a = make_loader(read, {.threads = 0}), b = make_loader(kept, {.threads = 0});
    a->start(0), b->start(0);
    std::filesystem::rename(small.dir / "images", small.dir / "elsewhere");  // the files are not needed any more
    const DetectionBatch* from_memory = b->next();
    std::filesystem::rename(small.dir / "elsewhere", small.dir / "images");
    CHECK(text_of(*a->next()) == text_of(*from_memory));
  }
  const Memory memory = host_memory();
  CHECK(memory.available > 0);
  CHECK(memory.total >= memory.available);
}

TEST_CASE("batches: worker count") {
  CHECK(worker_count(8, 16, 0, 4) == 4);
  CHECK(worker_count(8, 16, 2, 24) == 8);
  CHECK(worker_count(8, 16, 8, 24) == 3);
  CHECK(worker_count(8, 4, 1, 64) == 4);
  CHECK(worker_count(8, 1, 1, 64) == 0);
  CHECK(worker_count(0, 16, 1, 64) == 0);
}

TEST_CASE("batches: shuffles are permutations, another one each epoch and for each seed") {
  std::set<std::vector<std::int64_t>> seen;
  for (std::uint64_t seed = 0; seed < 3; ++seed)
    for (std::uint64_t epoch = 0; epoch < 5; ++epoch) {
      auto order = shuffled_order(40, seed, epoch);
      CHECK(order == shuffled_order(40, seed, epoch));
      seen.insert(order);
      std::ranges::sort(order);
      for (std::int64_t i = 0; i < 40; ++i) CHECK(order[static_cast<std::size_t>(i)] == i);
    }
  CHECK(seen.size() == 15);
  std::vector<int> first(4);  // each image comes first about equally often: 1000 +- 4 standard deviations (27)
  for (std::uint64_t epoch = 0; epoch < 4000; ++epoch) ++first[static_cast<std::size_t>(shuffled_order(4, 7, epoch)[0])];
  for (const int count : first) CHECK(std::abs(count - 1000) < 110);
}

TEST_CASE("batches: equal for any number of threads, new in each epoch") {
  const SmallSet small;
  const auto data = std::make_shared<const DetectionDataset>(
      small.labels(),
      DatasetOptions{.imgsz = 64, .batch_size = 2, .augment = true, .hyp = {.degrees = 10, .flipud = 0.5, .mixup = 0.5}});
  const auto run = [&](int threads, std::uint64_t seed) {
    const auto loader =
        make_loader(data, {.seed = seed, .shuffle = true, .threads = threads, .prefetch = 2, .run_ahead = true});
    std::vector<std::string> seen;
    for (int epoch = 0; epoch < 3; ++epoch) {
      std::multiset<std::int64_t> indices;
      std::int64_t sizes = 0;
      for (loader->start(epoch); const DetectionBatch* b = loader->next();) {
        CHECK(b->h == 64);
        CHECK(b->w == 64);
        CHECK(b->n == (sizes < 4 ? 2 : 1));  // the rest of 5 images is kept
        sizes += b->n;
        indices.insert(b->indices.begin(), b->indices.end());
        for (std::int64_t t = 0; t < b->target_count(); ++t) {
          const float* row = &b->targets[static_cast<std::size_t>(6 * t)];
          CHECK((row[0] >= 0 && row[0] < static_cast<float>(b->n)));
          for (int k = 2; k < 6; ++k) CHECK((row[k] >= 0 && row[k] <= 1));
        }
        seen.push_back(text_of(*b));
      }
      CHECK(indices == std::multiset<std::int64_t>{0, 1, 2, 3, 4});
    }
    return seen;
  };
  const auto alone = run(0, 5);
  CHECK(std::set<std::string>(alone.begin(), alone.end()).size() == 9);
  CHECK(run(1, 5) == alone);
  CHECK(run(4, 5) == alone);
  CHECK(run(4, 6) != alone);
}

TEST_CASE("batches: targets carry the image's place in its batch") {
  const SmallSet small;
  const auto data = std::make_shared<const DetectionDataset>(small.labels(), DatasetOptions{.imgsz = 64, .batch_size = 4});
  const auto loader = make_loader(data, {.threads = 2});
  loader->start(0);
  const DetectionBatch* b = loader->next();
  REQUIRE(b);
  REQUIRE(b->target_count() == 6);  // a, b, c: two each; d: none
  for (std::size_t t = 0; t < 6; ++t) {
    CHECK(b->targets[6 * t] == static_cast<float>(t / 2));
    CHECK(b->targets[6 * t + 1] == static_cast<float>(t / 2));  // in this set the class is the image's number
  }
  CHECK(stem(b->paths[3]) == "d");
  b = loader->next();
  CHECK(b->n == 1);
  CHECK(b->target_count() == 2);
  CHECK(b->targets[0] == 0);
  CHECK(b->targets[1] == 4);
  CHECK(loader->next() == nullptr);
}

TEST_CASE("batches: an index list decides which images an epoch has") {
  const SmallSet small;
  const auto data =
      std::make_shared<DetectionDataset>(small.labels(), DatasetOptions{.imgsz = 64, .batch_size = 5, .augment = true});
  data->set_index_list({3, 3, 3, 3, 3});
  const auto loader = make_loader(data, {.shuffle = true, .threads = 2});
  loader->start(0);
  const DetectionBatch* b = loader->next();
  CHECK(b->indices == std::vector<std::int64_t>(5, 3));
  CHECK(b->target_count() == 0);  // mosaics of d alone, which has no labels
  CHECK(std::memcmp(b->image(0), b->image(1), 64 * 64 * 3) != 0);
}

TEST_CASE("batches: rectangular batches are not shuffled") {
  const SmallSet small;
  const auto data = std::make_shared<const DetectionDataset>(
      small.labels(), DatasetOptions{.imgsz = 64, .batch_size = 2, .pad = 0.5, .rect = true});
  CHECK_THROWS_AS(make_loader(data, {.shuffle = true}), Error);
  const auto loader = make_loader(data, {.threads = 3});
  std::int64_t place = 0;
  for (loader->start(0); const DetectionBatch* b = loader->next(); ++place) {
    CHECK(Shape2{static_cast<int>(b->h), static_cast<int>(b->w)} == data->batch_shape(place));
    CHECK(b->indices[0] == 2 * place);
  }
  CHECK(place == 3);
}

TEST_CASE("batches: coco128 as validation and as training sees it") {
  if (!golden::have("data/coco128")) return;
  const LabelSet labels = coco128();
  for (const bool augment : {false, true}) {
    const auto data = std::make_shared<const DetectionDataset>(
        labels,
        DatasetOptions{.imgsz = 320, .batch_size = 48, .pad = augment ? 0 : 0.5, .augment = augment, .rect = !augment});
    const auto loader = make_loader(data, {.shuffle = augment, .threads = 2});
    std::int64_t images = 0, targets = 0;
    for (loader->start(0); const DetectionBatch* b = loader->next();) {
      images += b->n;
      targets += b->target_count();
    }
    CHECK(images == 128);
    if (augment) {
      CHECK(targets > 929);  // mosaics: four pictures' labels, less what is cut off
    } else {
      CHECK(targets == 929);
    }
    CHECK(data->take_warnings().empty());
  }
}

}  // namespace frost::yolo
