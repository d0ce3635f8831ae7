// Bytes of a file on their way into memory: caches of rows and windows of a mapped file.
#include <random>

#include "formats/base/little_endian.h"
#include "runtime/account/account.h"
#include "runtime/storage/large_pages.h"
#include "runtime/storage/lru.h"
#include "runtime/storage/row_window.h"
#include "tests/support/catch.h"
#include "tests/support/support.h"

namespace rwkv::edge {
namespace {

TEST_CASE("The least recently used row leaves a cache first", "[storage]") {
  for (const uint64_t capacity : {3, 200}) {
    Lru lru(1000, capacity);
    for (uint64_t unit = 0; unit < capacity; ++unit) {
      CHECK(lru.find(unit) == Lru::kNone);
      lru.replace(unit);
    }
    lru.touch(lru.find(0));  // 1 is the oldest now
    lru.replace(500);
    CHECK(lru.find(1) == Lru::kNone);
    CHECK(lru.find(0) != Lru::kNone);
    CHECK(lru.find(500) != Lru::kNone);
    lru.replace(501);
    CHECK(lru.find(2) == Lru::kNone);
    lru.clear();
    CHECK(lru.find(500) == Lru::kNone);
  }
  // Against a plain list, at random.
  std::mt19937 random(1);
  Lru lru(400, 150);
  std::vector<uint64_t> model;  // used last first
  for (int i = 0; i < 20000; ++i) {
    const uint64_t unit = random() % 400;
    const auto found = std::find(model.begin(), model.end(), unit);
    REQUIRE((lru.find(unit) != Lru::kNone) == (found != model.end()));
    if (found != model.end()) {
      lru.touch(lru.find(unit));
      model.erase(found);
    } else {
      lru.replace(unit);
      if (model.size() == 150) {
        model.pop_back();
      }
    }
    model.insert(model.begin(), unit);
  }
}

// Every eighth byte of a file of its own says where it lies.
std::string write_places(const test::ScratchFolder& folder, uint64_t n_bytes) {
  std::vector<std::byte> bytes(n_bytes);
  for (uint64_t at = 0; at < n_bytes; at += 8) {
    store_le(bytes.data() + at, at);
  }
  const std::string path = folder.file("places");
  test::write_bytes(path, bytes);
  return path;
}

// Of files alone: sanitizers have memory of their own for what is touched. 0 if the system does not
// say.
uint64_t resident_of_files() {
  const auto memory = process_memory();
  return memory ? memory->rss - memory->anonymous : 0;
}

TEST_CASE("Of a file that is used through a window little is resident", "[storage]") {
  constexpr uint64_t kBytes = uint64_t{70} << 20;
  const test::ScratchFolder folder;
  const std::string path = write_places(folder, kBytes);
  const auto file = MappedFile::open(path);
  REQUIRE_OK(file.status());
  if (GENERATE(false, true)) {
    want_large_pages(file.value()->bytes());
    const FileRange all = {0, kBytes};
    refill_in_large_pages(*InputFile::open(path).value(), file.value()->bytes(), {&all, 1});
  }
  const uint64_t room = RowWindow::room_for(kBytes);
  RowWindow window(file.value(), room);
  const uint64_t before = resident_of_files();
  std::mt19937_64 random(5);
  const auto stretch = [&](uint64_t most_bytes) {
    const uint64_t n = 8 + random() % (most_bytes - 8) / 8 * 8;
    return FileRange{random() % (kBytes - n) / 8 * 8, n};
  };
  uint64_t most = 0;
  FileRange next = stretch(RowWindow::kSpan);
  for (int i = 0; i < 300; ++i) {
    const auto [begin, n] = next;
    const std::byte* at = window.move_to(begin, begin + n);
    // What was prefetched comes next, or something else does.
    next = stretch(i % 3 == 0 ? RowWindow::kSpan : RowWindow::kSpan / 4);
    if (i % 4 == 0) {
      window.prefetch(next.offset, next.offset + next.n_bytes);
      next = i % 8 == 0 ? next : stretch(RowWindow::kSpan);
    }
    for (uint64_t j = 0; j < n; j += 4096) {
      REQUIRE(load_le<uint64_t>(at + j) == begin + j);
    }
    REQUIRE(load_le<uint64_t>(at + n - 8) == begin + n - 8);
    if (i % 10 == 0) {
      most = std::max(most, resident_of_files() - std::min(before, resident_of_files()));
    }
    if (i % 5 == 0) {
      window.release();
    }
  }
  constexpr uint64_t kNoise = uint64_t{1} << 20;
  CHECK(most < room + kNoise);
  CHECK((most > 0 || !process_memory()));
  CHECK(room < kBytes / 2);
}

TEST_CASE("A window prefetches beside what is in use, if there is room", "[storage]") {
  constexpr uint64_t kBytes = uint64_t{70} << 20;
  constexpr uint64_t kStretch = uint64_t{4} << 20;
  const test::ScratchFolder folder;
  const auto file = MappedFile::open(write_places(folder, kBytes));
  REQUIRE_OK(file.status());
  const auto grows = [&](RowWindow& window, uint64_t begin) {
    const uint64_t before = resident_of_files();
    window.prefetch(begin, begin + kStretch);
    return resident_of_files() > before;
  };
  if (!process_memory()) {
    return;
  }
  RowWindow wide(file.value(), 4 * kStretch);
  wide.move_to(0, kStretch);
  CHECK(grows(wide, 8 * kStretch));
  CHECK_FALSE(grows(wide, 8 * kStretch));
  RowWindow narrow(file.value(), kStretch + kLargePage);
  CHECK(grows(narrow, 4 * kStretch));
  narrow.move_to(2 * kStretch, 3 * kStretch);
  CHECK_FALSE(grows(narrow, 6 * kStretch));
}

}  // namespace
}  // namespace rwkv::edge
