#include "engine/data/loader.h"

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <set>
#include <string>

#include "engine/base/rng.h"
#include "engine/data/parallel_for.h"

namespace frost {
namespace {

struct Numbers {
  std::vector<std::uint64_t> values;
  std::uint64_t sum = 0;
  std::int64_t epoch = -1, place = -1;
};

constexpr std::int64_t kBatches = 7, kItems = 5;

/// Items take unequal time, so that they end out of order; the last batch is shorter.
BatchSource<Numbers> numbers(std::atomic<int>* open_now = nullptr) {
  return {.batches = kBatches,
          .open =
              [open_now](Numbers& b, std::int64_t epoch, std::int64_t place) {
                if (open_now) ++*open_now;
                b.epoch = epoch, b.place = place, b.sum = 0;
                b.values.assign(place == kBatches - 1 ? 2 : kItems, 0);
                return static_cast<std::int64_t>(b.values.size());
              },
          .item =
              [](Numbers& b, std::int64_t epoch, std::int64_t place, std::int64_t i) {
                Rng rng(3, static_cast<std::uint64_t>(epoch), static_cast<std::uint64_t>(place * kItems + i));
                std::this_thread::sleep_for(std::chrono::microseconds(rng.below(400)));
                b.values[static_cast<std::size_t>(i)] = rng.next();
              },
          .close =
              [](Numbers& b, std::int64_t, std::int64_t) {
                for (const auto v : b.values) b.sum += v;
              }};
}

std::vector<std::uint64_t> epochs(int threads, int prefetch, bool run_ahead) {
  Loader<Numbers> loader(numbers(), {.threads = threads, .prefetch = prefetch, .run_ahead = run_ahead});
  std::vector<std::uint64_t> seen;
  for (int epoch = 0; epoch < 4; ++epoch) {
    std::int64_t place = 0;
    for (loader.start(epoch); const Numbers* b = loader.next(); ++place) {
      CHECK(b->epoch == epoch);
      CHECK(b->place == place);
      seen.insert(seen.end(), b->values.begin(), b->values.end());
      seen.push_back(b->sum);
    }
    CHECK(place == kBatches);
    CHECK(loader.next() == nullptr);  // stays at the end
  }
  return seen;
}

}  // namespace

TEST_CASE("loader: order and content do not depend on threads, prefetch or running ahead") {
  const auto alone = epochs(0, 1, false);
  CHECK(std::set<std::uint64_t>(alone.begin(), alone.end()).size() == alone.size());
  for (const int threads : {1, 2, 4, 9})
    for (const int prefetch : {1, 3})
      for (const bool run_ahead : {false, true}) {
        CAPTURE(threads);
        CAPTURE(prefetch);
        CHECK(epochs(threads, prefetch, run_ahead) == alone);
      }
}

TEST_CASE("loader: buffers are recycled") {
  for (const int threads : {0, 3}) {
    Loader<Numbers> loader(numbers(), {.threads = threads, .prefetch = 2, .run_ahead = true});
    std::set<const Numbers*> buffers;
    for (int epoch = 0; epoch < 5; ++epoch)
      for (loader.start(epoch); const Numbers* b = loader.next();) buffers.insert(b);
    CHECK(buffers.size() == (threads ? 3 : 1));
  }
}

TEST_CASE("loader: a batch in use is not touched") {
  Loader<Numbers> loader(numbers(), {.threads = 4, .prefetch = 1, .run_ahead = true});
  loader.start(0);
  const Numbers* b = loader.next();
  const Numbers copy = *b;
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  CHECK(b->place == 0);
  CHECK(b->values == copy.values);
}

TEST_CASE("loader: it makes prefetch batches ahead, no more, and stops at the epoch's end unless told to run ahead") {
  std::atomic<int> opened = 0;
  Loader<Numbers> loader(numbers(&opened), {.threads = 2, .prefetch = 2});
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  CHECK(opened == 0);  // not before start
  loader.start(0);
  loader.next();
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  CHECK(opened == 3);  // one in use, two ahead
  while (loader.next()) {
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  CHECK(opened == kBatches);
}

TEST_CASE("loader: start in the middle of an epoch throws the work away") {
  for (const int threads : {0, 1, 4}) {
    Loader<Numbers> loader(numbers(), {.threads = threads, .prefetch = 3, .run_ahead = true});
    loader.start(0);
    loader.next();
    loader.next();
    for (const std::int64_t epoch : {5, 5, 2}) {
      loader.start(epoch);
      const Numbers* b = loader.next();
      REQUIRE(b);
      CHECK(b->epoch == epoch);
      CHECK(b->place == 0);
    }
  }
}

TEST_CASE("loader: exceptions reach the consumer, at their batch") {
  for (const int threads : {0, 1, 4})
    for (const std::string where : {"open", "item", "close"}) {
      CAPTURE(threads);
      CAPTURE(where);
      auto source = numbers();
      const auto throw_at = [](std::int64_t place) {
        if (place == 2) fail("broken image");
      };
      if (where == "open")
        source.open = [open = source.open, throw_at](Numbers& b, std::int64_t e, std::int64_t p) {
          return throw_at(p), open(b, e, p);
        };
      if (where == "item")
        source.item = [item = source.item, throw_at](Numbers& b, std::int64_t e, std::int64_t p, std::int64_t i) {
          if (i == 3) throw_at(p);
          item(b, e, p, i);
        };
      if (where == "close") source.close = [throw_at](Numbers&, std::int64_t, std::int64_t p) { throw_at(p); };
      Loader<Numbers> loader(source, {.threads = threads, .prefetch = 2});
      loader.start(0);
      CHECK(loader.next()->place == 0);
      CHECK(loader.next()->place == 1);
      CHECK_THROWS_WITH_AS(loader.next(), "broken image", Error);
      for (std::int64_t place = 3; place < kBatches; ++place) CHECK(loader.next()->place == place);
      CHECK(loader.next() == nullptr);
    }
}

TEST_CASE("loader: destruction at any time ends cleanly") {
  for (int take = 0; take < 6; ++take) {
    Loader<Numbers> loader(numbers(), {.threads = 4, .prefetch = 2, .run_ahead = true});
    if (take > 0) loader.start(0);
    for (int i = 1; i < take; ++i) CHECK(loader.next() != nullptr);
  }
}

TEST_CASE("loader: wrong use is said") {
  Loader<Numbers> loader(numbers());
  CHECK_THROWS_AS(loader.next(), Error);
  CHECK_THROWS_AS(Loader<Numbers>(numbers(), {.threads = 2, .prefetch = 0}), Error);
}

TEST_CASE("parallel_for: each index once, progress rises, exceptions are rethrown") {
  for (const int threads : {0, 1, 4}) {
    std::vector<std::atomic<int>> hits(100);
    std::int64_t last = 0;
    parallel_for(
        100, threads, [&](std::int64_t i) { ++hits[static_cast<std::size_t>(i)]; },
        [&](std::int64_t done) {
          CHECK(done >= last);
          last = done;
        });
    CHECK(last == 100);
    for (const auto& h : hits) CHECK(h == 1);
    CHECK_THROWS_WITH_AS(parallel_for(100, threads,
                                      [](std::int64_t i) {
                                        if (i == 50) fail("at 50");
                                      }),
                         "at 50", Error);
    parallel_for(0, threads, [](std::int64_t) { FAIL("nothing to do"); });
  }
}

}  // namespace frost
