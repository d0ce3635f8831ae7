// Pieces of a file on their way through a ring: in order, whole, read ahead, and after failures.
#include "runtime/storage/stream.h"

#include <chrono>
#include <filesystem>

#include "formats/base/little_endian.h"
#include "tests/support/allocations.h"
#include "tests/support/catch.h"
#include "tests/support/support.h"

namespace rwkv::edge {
namespace {

using Catch::Contains;
constexpr uint64_t kPiece = 10'000;  // no multiple of a block

// Every eighth byte of the file says where it lies.
std::vector<std::byte> places(uint64_t n_bytes) {
  std::vector<std::byte> bytes(n_bytes);
  for (uint64_t at = 0; at < n_bytes; at += 8) {
    store_le(bytes.data() + at, at);
  }
  return bytes;
}

// `n` pieces of a file, in a ring of `n_slots`.
struct Trial {
  Trial(size_t n, size_t n_slots, size_t n_always, uint64_t speed = 0)
      : path(folder.file("places")), area(align_up(kPiece + PieceReader::kBlock, 4096)) {
    const std::vector<std::byte> bytes = places(8 + n * kPiece);
    test::write_bytes(path, bytes);
    memory.resize(n_slots * area + PieceReader::kBlock);
    const auto address = reinterpret_cast<uintptr_t>(memory.data());
    ring =
        std::span(memory).subspan(align_up(address, PieceReader::kBlock) - address, n_slots * area);
    for (size_t i = 0; i < n; ++i) {
      StreamedPiece& piece = pieces.emplace_back();
      piece.source.offset = 8 + i * kPiece;
      piece.source.n_bytes = kPiece;
      piece.area = i % n_slots * area;
      piece.area_bytes = area;
      piece.component = Component::Head;
    }
    auto reader = PieceReader::open(path, bytes.size(), speed);
    REQUIRE_OK(reader.status());
    stream = std::make_unique<Stream>(reader.take(), pieces, n_always, ring);
  }
  bool is_right(size_t step) const {
    const std::byte* const at = stream->view(step).units;
    for (uint64_t i = 0; i < kPiece; i += 8) {
      if (load_le<uint64_t>(at + i) != pieces[step].source.offset + i) {
        return false;
      }
    }
    return true;
  }
  // Uses pieces [0, n); returns how many were right.
  size_t use(size_t n) {
    size_t n_right = 0;
    for (size_t i = 0; i < n; ++i) {
      if (!stream->await(i, traffic).ok()) {
        return n_right;
      }
      n_right += is_right(i) ? 1 : 0;
      stream->done(i, traffic);
    }
    return n_right;
  }
  uint64_t read() const { return traffic.at(Component::Head).read; }

  test::ScratchFolder folder;
  std::string path;
  uint64_t area;
  std::vector<std::byte> memory;
  std::span<std::byte> ring;
  std::vector<StreamedPiece> pieces;
  Traffic traffic;
  std::unique_ptr<Stream> stream;
};

TEST_CASE("Every pass gets every piece, whole, through a ring of any size", "[stream]") {
  for (const size_t n_slots : {1, 2, 3, 7, 20}) {
    Trial trial(11, n_slots, 11);
    for (int pass = 1; pass <= 20; ++pass) {
      INFO(n_slots << " slots, pass " << pass);
      trial.stream->begin(true, trial.traffic);
      CHECK(trial.use(11) == 11);
      CHECK(trial.read() == pass * 11 * kPiece);
    }
  }
}

TEST_CASE("Pieces at the end are read only for passes that need them", "[stream]") {
  Trial trial(10, 3, 8);
  uint64_t expected = 0;
  for (const bool with_rest : {false, true, false, false, true, true, false}) {
    trial.stream->begin(with_rest, trial.traffic);
    CHECK(trial.use(with_rest ? 10 : 8) == (with_rest ? 10 : 8));
    expected += (with_rest ? 10 : 8) * kPiece;
  }
  trial.stream->begin(true, trial.traffic);
  CHECK(trial.read() == expected);
}

TEST_CASE("Pieces may be left out, but not used after later ones", "[stream]") {
  Trial trial(9, 2, 9);
  for (int pass = 0; pass < 3; ++pass) {
    trial.stream->begin(true, trial.traffic);
    for (const size_t step : {1, 2, 6, 8}) {
      REQUIRE_OK(trial.stream->await(step, trial.traffic));
      CHECK(trial.is_right(step));
    }
    const Status status = trial.stream->await(3, trial.traffic);
    CHECK_THAT(status.message(), Contains("program error"));
  }
  CHECK(trial.read() <= 3 * 9 * kPiece);
}

TEST_CASE("Pieces are read while nobody waits, and no further than the ring", "[stream]") {
  Trial trial(6, 3, 6);
  const auto wait_for = [&](size_t step) {
    for (int i = 0; i < 5000 && !trial.stream->has(step); ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return trial.stream->has(step);
  };
  CHECK(wait_for(2));
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  CHECK_FALSE(trial.stream->has(3));
  trial.stream->begin(true, trial.traffic);
  CHECK(trial.use(6) == 6);
  // The next pass has not begun.
  trial.stream->begin(true, trial.traffic);
  CHECK(wait_for(2));
}

TEST_CASE("A file that became shorter fails one pass, and the next one when it is whole succeeds",
          "[stream]") {
  Trial trial(8, 2, 8);
  const std::vector<std::byte> whole = test::read_bytes(trial.path);
  trial.stream->begin(true, trial.traffic);
  CHECK(trial.use(8) == 8);
  for (int i = 0; i < 3; ++i) {
    std::filesystem::resize_file(trial.path, 8 + 5 * kPiece + 100);
    size_t n_right = 8;
    // What was read ahead is still right.
    for (int pass = 0; pass < 3 && n_right == 8; ++pass) {
      trial.stream->begin(true, trial.traffic);
      n_right = trial.use(8);
    }
    CHECK(n_right == 5);
    const Status status = trial.stream->await(5, trial.traffic);
    CHECK(status.code() == Code::Failed);
    CHECK_THAT(status.message(), Contains(trial.path) && Contains("became shorter"));
    std::filesystem::resize_file(trial.path, whole.size());
    test::write_bytes(trial.path, whole);
    trial.stream->begin(true, trial.traffic);
    CHECK(trial.use(8) == 8);
  }
}

TEST_CASE("A slower storage is imitated", "[stream]") {
  Trial trial(10, 2, 10, 1'000'000);  // 10 ms a piece
  const auto start = std::chrono::steady_clock::now();
  for (int pass = 0; pass < 2; ++pass) {
    trial.stream->begin(true, trial.traffic);
    CHECK(trial.use(10) == 10);
  }
  const double took =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  CHECK(took > 0.15);
  const StreamStats stats = trial.stream->stats();
  CHECK(stats.read_bytes >= 20 * kPiece);
  CHECK(static_cast<double>(stats.read_bytes) / stats.read_seconds < 1'200'000);
  CHECK(stats.waited_seconds > 0.1);
}

TEST_CASE("A stream allocates nothing while it runs", "[stream]") {
  Trial trial(12, 3, 12);
  trial.stream->begin(true, trial.traffic);
  CHECK(trial.use(12) == 12);
  const size_t before = test::n_allocations();
  for (int pass = 0; pass < 5; ++pass) {
    trial.stream->begin(true, trial.traffic);
    trial.use(12);
  }
  CHECK(test::n_allocations() == before);
}

TEST_CASE("A file that is shorter than its pieces is refused", "[stream]") {
  const test::ScratchFolder folder;
  const std::string path = folder.file("short");
  test::write_bytes(path, places(4096));
  CHECK(PieceReader::open(path, 4097, 0).status().code() == Code::BadInput);
  CHECK(PieceReader::open(folder.file("none"), 1, 0).status().code() == Code::BadInput);
  CHECK(PieceReader::open(folder.path().string(), 1, 0).status().code() == Code::BadInput);
}

}  // namespace
}  // namespace rwkv::edge
