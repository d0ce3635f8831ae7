// Damaged packed files: every command ends with a message or with a result, never otherwise.
#include <catch2/catch.hpp>

#include "formats/container/gguf_reader.h"
#include "formats/container/packed_tensors.h"
#include "tests/cli/run.h"
#include "tests/support/tiny_model.h"

namespace rwkv::test {
namespace {

constexpr int kBadInput = 3;
constexpr size_t kCuts = 50;
constexpr size_t kFlips = 50;

// In [0, n), from a fixed stream.
size_t pick(uint64_t seed, uint64_t i, size_t n) {
  const double unit = (static_cast<double>(noise(seed, i)) + 1.0) / 2.0;
  return std::min(n - 1, static_cast<size_t>(unit * static_cast<double>(n)));
}

void check_fine_or_refused(const Run& run) {
  if (run.exit_code == 0 && run.signal == 0) {
    return;
  }
  check_refused(run, kBadInput);
}

struct Model {
  explicit Model(const TinyModelOptions& options)
      : path(write_tiny_model(folder, options)), bytes(read_bytes(path)) {
    auto file = GgufFile::parse(bytes, path);
    REQUIRE(file.ok());
    auto list = packed_tensors(file.value());
    REQUIRE(list.ok());
    tensors = list.take();
  }
  std::string damaged(const std::vector<std::byte>& with) const {
    write_bytes(folder.file("damaged.gguf"), with);
    return folder.file("damaged.gguf");
  }
  std::string flipped(size_t at, size_t bit) const {
    std::vector<std::byte> copy = bytes;
    copy[at] ^= std::byte{1} << bit;
    return damaged(copy);
  }

  ScratchFolder folder;
  std::string path;
  std::vector<std::byte> bytes;
  std::vector<PackedTensor> tensors;
};

TEST_CASE("edge: a model that was cut is refused wherever it was cut", "[cli]") {
  const Model model({});
  for (size_t i = 0; i < kCuts; ++i) {
    const size_t size = model.bytes.size() * i / kCuts;
    INFO("cut to " << size << " of " << model.bytes.size());
    const std::string path =
        model.damaged({model.bytes.begin(), model.bytes.begin() + std::ptrdiff_t(size)});
    check_refused(edge({"inspect", path, "--verify"}), kBadInput, {path});
    check_refused(edge({"generate", path, "-p", "x", "-n", "1"}), kBadInput, {path});
  }
}

TEST_CASE("edge: a flipped bit in the data is found by --verify", "[cli]") {
  const Model model({.codec = Codec::I8Row});
  for (size_t i = 0; i < kFlips; ++i) {
    const PackedTensor& tensor = model.tensors[pick(1, i, model.tensors.size())];
    const size_t at = tensor.offset + pick(2, i, tensor.n_bytes);
    const std::string path = model.flipped(at, pick(3, i, 8));
    INFO("byte " << at << " of " << tensor.name);
    check_refused(edge({"inspect", path, "--verify"}), kBadInput, {path, tensor.name});
    // Running does not read every checksum: it may give other numbers, but it ends.
    check_fine_or_refused(edge({"generate", path, "-p", "x", "-n", "4"}));
  }
}

TEST_CASE("edge: a flipped bit in the header is refused or harmless", "[cli]") {
  for (const TinyVocabulary vocabulary : {TinyVocabulary::World, TinyVocabulary::Bpe}) {
    const Model model({.version = Version::V6, .vocabulary = vocabulary});
    const size_t header = model.tensors.front().offset;
    for (size_t i = 0; i < kFlips; ++i) {
      const size_t at = pick(4, i, header);
      INFO("byte " << at << " of a header of " << header);
      const std::string path = model.flipped(at, pick(5, i, 8));
      check_fine_or_refused(edge({"inspect", path, "--verify"}));
      check_fine_or_refused(edge({"generate", path, "-p", "x", "-n", "2"}));
    }
    // The first bytes hold the counts that everything else hangs on: all of their bits.
    for (size_t bit = 0; bit < 24 * 8; ++bit) {
      INFO("bit " << bit);
      check_refused(edge({"inspect", model.flipped(bit / 8, bit % 8)}), kBadInput);
    }
  }
}

}  // namespace
}  // namespace rwkv::test
