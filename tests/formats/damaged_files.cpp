#include "tests/formats/damaged_files.h"

#include <algorithm>
#include <filesystem>
#include <random>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/support.h"

namespace rwkv::test {
namespace {

// Removed first: some file systems flush a file that is truncated and written again, which takes
// milliseconds each time.
void replace_file(const std::string& path, std::span<const std::byte> bytes) {
  std::filesystem::remove(path);
  write_bytes(path, bytes);
}

}  // namespace

void check_reads_agree(const TensorSource& source) {
  std::vector<std::byte> whole;
  for (size_t i = 0; i < source.tensors().size(); ++i) {
    const TensorInfo& info = source.tensors()[i];
    INFO("tensor " << info.name);
    if (!source.read(i, whole).ok()) {
      continue;
    }
    REQUIRE(whole.size() == info.n_bytes());
    std::vector<std::byte> part(whole.size() / 2);
    const size_t offset = whole.size() / 3;  // rarely at an element's start
    REQUIRE_OK(source.read_range(i, offset, part));
    REQUIRE(std::equal(part.begin(), part.end(), whole.begin() + static_cast<ptrdiff_t>(offset)));
  }
}

void check_every_cut_is_refused(std::span<const std::byte> good, const OpenSource& open) {
  const ScratchFolder folder;
  const std::string path = folder.file("cut");
  const auto check = [&](size_t size) {
    replace_file(path, good.first(size));
    const Status status = open(path).status();
    INFO("cut to " << size << " of " << good.size() << " bytes: " << status.message());
    REQUIRE(status.code() == Code::BadInput);
  };
  for (size_t part = 0; part < 50; ++part) {
    check(good.size() * part / 50);
  }
  for (size_t size = 0; size < std::min<size_t>(200, good.size()); ++size) {
    check(size);
  }
}

void check_bit_flips(std::span<const std::byte> good, const OpenSource& open, size_t header_bytes) {
  const ScratchFolder folder;
  const std::string path = folder.file("flipped");
  std::mt19937_64 random(1);
  std::vector<std::byte> bytes(good.begin(), good.end());
  for (int round = 0; round < 600; ++round) {
    const size_t range = round % 4 == 3 ? bytes.size() : std::min(bytes.size(), header_bytes);
    const size_t at = random() % range;
    const auto bit = static_cast<std::byte>(1u << (random() % 8));
    bytes[at] ^= bit;
    replace_file(path, bytes);
    const auto opened = open(path);
    INFO("bit flipped at byte " << at << ": " << opened.status().message());
    if (opened.ok()) {
      check_reads_agree(*opened.value());
    } else {
      REQUIRE(opened.status().code() == Code::BadInput);
      REQUIRE_THAT(opened.status().message(), Catch::Contains(path));
    }
    bytes[at] ^= bit;
  }
}

}  // namespace rwkv::test
