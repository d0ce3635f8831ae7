// Small .pth files that ask for much work or memory: compressed storages that many tensors share,
// views that name the same bytes again and again, pickles that unpack to many times their size.
// Work is counted in inflated bytes, not in time.
#include "compressor/checkpoint/inflating_reader.h"
#include "tests/compressor/pth_testing.h"

namespace rwkv {
namespace {

using Catch::Contains;
using test::open_bytes;
using test::OpenedPth;
using test::refusal;
using test::TensorSpec;

constexpr int64_t kFloats = int64_t{1} << 21;
constexpr uint64_t kStorageBytes = 4 * static_cast<uint64_t>(kFloats);

OpenedPth open_deflated(const std::vector<TensorSpec>& specs) {
  auto entries = test::checkpoint_entries(test::dict_pickle(specs),
                                          {std::string(static_cast<size_t>(kStorageBytes), '\1')});
  entries[2].deflate = true;
  return open_bytes(test::make_zip(entries));
}

// Bytes that are inflated while every tensor is read, `slice` bytes at a time.
uint64_t work_of_reading(const TensorSource& source, uint64_t slice) {
  const uint64_t before = press::inflated_bytes();
  for (size_t i = source.tensors().size(); i > 0; --i) {
    const uint64_t n_bytes = source.tensors()[i - 1].n_bytes();
    std::vector<std::byte> out(static_cast<size_t>(std::min(slice, n_bytes)));
    for (uint64_t at = 0; at + out.size() <= n_bytes; at += out.size()) {
      REQUIRE_OK(source.read_range(i - 1, at, out));
      REQUIRE(out.front() == std::byte{1});
      REQUIRE(out.back() == std::byte{1});
    }
  }
  return press::inflated_bytes() - before;
}

TensorSpec at_end(int number) {
  return {"w" + std::to_string(number), "FloatStorage", "0",   kFloats,
          kFloats - 8 * (number + 1),   {2, 4},         {4, 1}};
}

}  // namespace

TEST_CASE("pth: many tensors in one compressed storage cost one pass", "[pth_work]") {
  std::vector<TensorSpec> specs;
  for (int i = 0; i < 300; ++i) {
    specs.push_back(at_end(i));
  }
  const OpenedPth opened = open_deflated(specs);
  REQUIRE_OK(opened.status());
  REQUIRE(work_of_reading(*opened.value(), kStorageBytes) <= kStorageBytes);
  REQUIRE(work_of_reading(*opened.value(), kStorageBytes) == 0);
}

TEST_CASE("pth: slices of a compressed tensor cost two passes, in any layout", "[pth_work]") {
  const TensorSpec rows = {
      "w", "FloatStorage", "0", kFloats, 0, {1024, kFloats / 1024}, {kFloats / 1024, 1}};
  const TensorSpec columns = {
      "w", "FloatStorage", "0", kFloats, 0, {kFloats / 1024, 1024}, {1, kFloats / 1024}};
  for (const TensorSpec& spec : {rows, columns}) {
    const OpenedPth opened = open_deflated({spec});
    REQUIRE_OK(opened.status());
    // The first read verifies the checksum of all.
    REQUIRE(work_of_reading(*opened.value(), kStorageBytes / 64) <= 2 * kStorageBytes);
  }
}

TEST_CASE("pth: compressed storages that cannot be kept are refused when shared", "[pth_work]") {
  // Nothing is inflated on opening, so the size need not be true.
  constexpr int64_t kClaimed = int64_t{75} << 20;
  std::string noise(400'000, '\0');
  for (size_t i = 0; i < noise.size(); ++i) {
    noise[i] = static_cast<char>(test::noise(1, i) * 127);
  }
  const auto opened_with = [&](const std::vector<TensorSpec>& specs) {
    auto entries = test::checkpoint_entries(test::dict_pickle(specs), {noise});
    entries[2].deflate = true;
    entries[2].size = static_cast<uint32_t>(4 * kClaimed);
    return open_bytes(test::make_zip(entries));
  };
  const TensorSpec one = {"a", "FloatStorage", "0", kClaimed, 0, {8}, {1}};
  const TensorSpec other = {"b", "FloatStorage", "0", kClaimed, kClaimed - 8, {8}, {1}};
  REQUIRE_OK(opened_with({one}).status());
  REQUIRE_THAT(refusal(opened_with({one, other})),
               Contains("several tensors share compressed storages of 314572800 bytes") &&
                   Contains("zip -0"));
}

TEST_CASE("pth: tensors that name one storage again and again are refused", "[pth_work]") {
  const auto repeated = [](int n_tensors) {
    std::vector<TensorSpec> specs;
    for (int i = 0; i < n_tensors; ++i) {
      // 64 MiB out of 4 bytes.
      specs.push_back(
          {"w" + std::to_string(i), "FloatStorage", "0", 1, 0, {1 << 12, 1 << 12}, {0, 0}});
    }
    return test::open_checkpoint(test::dict_pickle(specs), {test::counting_floats(1)});
  };
  REQUIRE_OK(repeated(4).status());
  REQUIRE_THAT(refusal(repeated(5)), Contains("5 tensors have 335544320 bytes in all"));
}

TEST_CASE("pth: views that fold over themselves are refused", "[pth_work]") {
  const auto opened_with = [](const std::vector<int64_t>& shape,
                              const std::vector<int64_t>& strides) {
    return test::open_checkpoint(
        test::dict_pickle({{"w", "FloatStorage", "0", 64, 0, shape, strides}}),
        {test::counting_floats(64)});
  };
  REQUIRE_THAT(refusal(opened_with({3, 3}, {1, 1})), Contains("names elements twice"));
  REQUIRE_THAT(refusal(opened_with({3, 3}, {2, 1})), Contains("names elements twice"));
  REQUIRE_THAT(refusal(opened_with({2, 2, 2}, {5, 6, 7})), Contains("names elements twice"));
  REQUIRE_OK(opened_with({3, 3}, {3, 1}).status());
  REQUIRE_OK(opened_with({3, 3}, {1, 3}).status());
  REQUIRE_OK(opened_with({3, 1, 3}, {1, 1, 4}).status());
  REQUIRE_OK(opened_with({3, 3}, {0, 1}).status());
}

TEST_CASE("pth: a pickle that unpacks to many times its size is refused", "[pth_work]") {
  auto entries = test::checkpoint_entries(std::string(3'000'000, 'N') + ".", {});
  entries[0].deflate = true;
  const std::string file = test::make_zip(entries);
  REQUIRE(file.size() < 10'000);
  REQUIRE_THAT(refusal(open_bytes(file)), Contains("record model/data.pkl has 3000001 bytes"));
}

}  // namespace rwkv
