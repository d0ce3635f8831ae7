// Adapters merged into checkpoints, against the same merge written down plainly in double.
#include "compressor/checkpoint/adapter.h"

#include <cmath>
#include <functional>
#include <map>

#include "compressor/checkpoint/memory_source.h"
#include "compressor/checkpoint/merged_source.h"
#include "compressor/checkpoint/open.h"
#include "compressor/checkpoint/synth.h"
#include "compressor/checkpoint/write.h"
#include "tests/support/catch.h"
#include "tests/support/support.h"

namespace rwkv::press {
namespace {

using Matrix = std::vector<double>;

constexpr uint64_t kEmbd = 64;
constexpr uint64_t kFfn = 192;
constexpr uint64_t kRank = 16;

std::unique_ptr<TensorSource> base_model(const test::ScratchFolder& folder,
                                         const std::string& arch = "v7") {
  SynthOptions options;
  options.model = {.arch = arch, .n_layer = 2, .n_embd = kEmbd, .n_vocab = 64, .dim_ffn = kFfn};
  options.output = folder.file(arch + ".safetensors");
  options.existing = OutputFile::Existing::Replace;
  options.dtype = "bf16";
  REQUIRE_OK(write_synthetic(options).status());
  auto opened = open_checkpoint(options.output);
  REQUIRE_OK(opened.status());
  return std::move(opened.value().source);
}

std::vector<float> noisy(uint64_t n, uint64_t seed) {
  std::vector<float> values(n);
  for (uint64_t i = 0; i < n; ++i) {
    values[i] = 0.1f * test::noise(seed, i);
  }
  return values;
}

// An adapter in memory; tensors of noise, with the seed of their number.
class AdapterFile {
 public:
  explicit AdapterFile(const std::string& name) : source_(std::make_unique<MemorySource>(name)) {}
  AdapterFile& add(const std::string& name, std::vector<uint64_t> shape) {
    uint64_t n = 1;
    for (const uint64_t dim : shape) {
      n *= dim;
    }
    source_->add(name, std::move(shape), noisy(n, ++n_));
    return *this;
  }
  std::unique_ptr<TensorSource> take() { return std::move(source_); }

 private:
  std::unique_ptr<MemorySource> source_;
  uint64_t n_ = 0;
};

Result<Merged> merged_with(std::unique_ptr<TensorSource> base, std::unique_ptr<TensorSource> one,
                           const MergeOptions& options = {},
                           std::unique_ptr<TensorSource> two = nullptr) {
  std::vector<OpenedAdapter> adapters;
  adapters.push_back({std::move(one), std::nullopt});
  if (two) {
    adapters.push_back({std::move(two), std::nullopt});
  }
  return merge_adapters(std::move(base), std::move(adapters), options);
}

Matrix values_of(const TensorSource& source, const std::string& name) {
  for (size_t i = 0; i < source.tensors().size(); ++i) {
    if (source.tensors()[i].name == name) {
      std::vector<std::byte> bytes;
      REQUIRE_OK(source.read(i, bytes));
      std::vector<float> values(source.tensors()[i].n_elements());
      decode_to_f32(source.tensors()[i].dtype, bytes, values);
      return Matrix(values.begin(), values.end());
    }
  }
  FAIL("no tensor " << name);
  return {};
}

Matrix doubles(const std::vector<float>& values) {
  return Matrix(values.begin(), values.end());
}

// C[i][j] = sum over k of A[i][k] B[k][j].
Matrix product(const Matrix& a, const Matrix& b, uint64_t n_inner) {
  const uint64_t rows = a.size() / n_inner;
  const uint64_t cols = b.size() / n_inner;
  Matrix c(rows * cols);
  for (uint64_t i = 0; i < rows; ++i) {
    for (uint64_t j = 0; j < cols; ++j) {
      for (uint64_t k = 0; k < n_inner; ++k) {
        c[i * cols + j] += a[i * n_inner + k] * b[k * cols + j];
      }
    }
  }
  return c;
}

// Of the same values up to the rounding to f32 at the end.
void check_close(const Matrix& found, const Matrix& expected) {
  REQUIRE(found.size() == expected.size());
  double worst = 0.0;
  for (size_t i = 0; i < found.size(); ++i) {
    worst = std::max(worst, std::abs(found[i] - expected[i]) / (1.0 + std::abs(expected[i])));
  }
  CHECK(worst < 1e-7);
}

const std::string kKey = "blocks.1.ffn.key";      // [kFfn][kEmbd]
const std::string kValue = "blocks.0.ffn.value";  // [kEmbd][kFfn]

TEST_CASE("Names of adapters' tensors are understood, others are not", "[adapters]") {
  const auto target = [](const char* name) {
    const auto parsed = parse_adapter_name(name);
    return parsed ? parsed->target : std::string("-");
  };
  CHECK(target("blocks.3.att.key.lora_A") == "blocks.3.att.key.weight");
  CHECK(target("model.blocks.3.att.key.init_lora_B") == "blocks.3.att.key.weight");
  CHECK(target("base_model.model.blocks.3.att.key.lora_B.default.weight") ==
        "blocks.3.att.key.weight");
  CHECK(target("blocks.3.att.key.lora_A.weight") == "blocks.3.att.key.weight");
  CHECK(target("blocks.3.ffn.key.disha") == "blocks.3.ffn.key.weight");
  CHECK(target("blocks.3.ffn.key.bone") == "blocks.3.ffn.key.weight");
  CHECK(target("blocks.3.att.key.weight") == "-");
  CHECK(target("blocks.3.att.w0") == "-");
  CHECK(target(".lora_A") == "-");
  CHECK(parse_adapter_name("a.lora_A")->part == AdapterPart::LoraA);
  CHECK(parse_adapter_name("a.init_lora_A")->part == AdapterPart::InitLoraA);
}

TEST_CASE("LoRA: W + alpha / rank B A", "[adapters]") {
  const test::ScratchFolder folder;
  const Matrix before = values_of(*base_model(folder), kKey + ".weight");
  auto merged = merged_with(base_model(folder),
                            AdapterFile("lora.pth")
                                .add(kKey + ".lora_A", {kRank, kEmbd})
                                .add(kKey + ".lora_B", {kFfn, kRank})
                                .take(),
                            {.alpha = 40.0});
  REQUIRE_OK(merged.status());
  const TensorSource& source = *merged.value().source;
  Matrix expected =
      product(doubles(noisy(kFfn * kRank, 2)), doubles(noisy(kRank * kEmbd, 1)), kRank);
  for (size_t i = 0; i < expected.size(); ++i) {
    expected[i] = before[i] + 40.0 / 16.0 * expected[i];
  }
  check_close(values_of(source, kKey + ".weight"), expected);
  // Everything else is the base's, byte for byte, and has its types.
  const auto base = base_model(folder);
  REQUIRE(source.tensors().size() == base->tensors().size());
  for (size_t i = 0; i < base->tensors().size(); ++i) {
    CHECK(source.tensors()[i].name == base->tensors()[i].name);
    if (source.tensors()[i].name != kKey + ".weight") {
      std::vector<std::byte> a;
      std::vector<std::byte> b;
      REQUIRE_OK(source.read(i, a));
      REQUIRE_OK(base->read(i, b));
      CHECK((a == b && source.tensors()[i].dtype == DType::BF16));
    }
  }
  CHECK_THAT(merged.value().notes.front(), Catch::Contains("lora.pth") &&
                                               Catch::Contains("1 matrices changed") &&
                                               Catch::Contains("rank 16"));
  CHECK_THAT(merged.value().notes.back(), Catch::Contains("alpha 40"));
}

TEST_CASE("PiSSA: W - B0 A0 + B A, in either order of the files", "[adapters]") {
  const test::ScratchFolder folder;
  const Matrix before = values_of(*base_model(folder), kKey + ".weight");
  const auto trained = [] {
    return AdapterFile("rwkv-0.pth")
        .add(kKey + ".lora_A", {kRank, kEmbd})
        .add(kKey + ".lora_B", {kFfn, kRank})
        .take();
  };
  const auto only_initial = [] {
    return AdapterFile("init_pissa.pth")
        .add("model." + kKey + ".init_lora_A", {kRank, kEmbd})
        .add("model." + kKey + ".init_lora_B", {kFfn, kRank})
        .take();
  };
  // Both files have tensors of the same noise, so nothing would change but for the second pair.
  const Matrix change =
      product(doubles(noisy(kFfn * kRank, 2)), doubles(noisy(kRank * kEmbd, 1)), kRank);
  for (const bool is_first : {false, true}) {
    auto merged = is_first ? merged_with(base_model(folder), only_initial(), {}, trained())
                           : merged_with(base_model(folder), trained(), {}, only_initial());
    REQUIRE_OK(merged.status());
    check_close(values_of(*merged.value().source, kKey + ".weight"), before);
  }
  auto second = std::make_unique<MemorySource>("rwkv-1.pth");
  second->add(kKey + ".lora_A", {kRank, kEmbd}, noisy(kRank * kEmbd, 8));
  second->add(kKey + ".lora_B", {kFfn, kRank}, noisy(kFfn * kRank, 9));
  auto merged = merged_with(base_model(folder), std::move(second), {}, only_initial());
  REQUIRE_OK(merged.status());
  Matrix expected =
      product(doubles(noisy(kFfn * kRank, 9)), doubles(noisy(kRank * kEmbd, 8)), kRank);
  for (size_t i = 0; i < expected.size(); ++i) {
    expected[i] += before[i] - change[i];
  }
  check_close(values_of(*merged.value().source, kKey + ".weight"), expected);
  const Status alone = merged_with(base_model(folder), only_initial()).status();
  CHECK(alone.code() == Code::Usage);
  CHECK_THAT(alone.message(), Catch::Contains("trained factors"));
}

// What it was trained as: y = W x + D^T (sum of the slices of x, padded with zeros to whole ones).
TEST_CASE("DiSHA: the sums of slices of the input, for widths of any remainder", "[adapters]") {
  const test::ScratchFolder folder;
  for (const uint64_t rank : {uint64_t{16}, uint64_t{20}}) {
    const Matrix before = values_of(*base_model(folder), kValue + ".weight");
    auto merged = merged_with(
        base_model(folder), AdapterFile("disha.pth").add(kValue + ".disha", {rank, kEmbd}).take());
    REQUIRE_OK(merged.status());
    const Matrix after = values_of(*merged.value().source, kValue + ".weight");
    const Matrix d = doubles(noisy(rank * kEmbd, 1));
    const Matrix x = doubles(noisy(kFfn, 77));
    Matrix sums(rank);
    for (uint64_t i = 0; i < kFfn; ++i) {
      sums[i % rank] += x[i];
    }
    Matrix expected = product(before, x, kFfn);
    const Matrix added = product(sums, d, rank);
    for (size_t i = 0; i < expected.size(); ++i) {
      expected[i] += added[i];
    }
    const Matrix found = product(after, x, kFfn);
    for (size_t i = 0; i < found.size(); ++i) {
      CHECK(std::abs(found[i] - expected[i]) < 1e-6);
    }
  }
}

TEST_CASE("Bone and DiSHA in blocks: W_ab + W_ab M_b + M_b", "[adapters]") {
  const test::ScratchFolder folder;
  for (const char* ending : {".bone", ".disha"}) {
    const Matrix before = values_of(*base_model(folder), kKey + ".weight");
    const uint64_t n_blocks = kEmbd / kRank;
    auto merged =
        merged_with(base_model(folder),
                    AdapterFile("bone.pth").add(kKey + ending, {n_blocks, kRank, kRank}).take());
    REQUIRE_OK(merged.status());
    const Matrix m = doubles(noisy(n_blocks * kRank * kRank, 1));
    Matrix expected = before;
    for (uint64_t a = 0; a < kFfn / kRank; ++a) {
      for (uint64_t b = 0; b < n_blocks; ++b) {
        const auto at = [&](uint64_t r, uint64_t c) {
          return (a * kRank + r) * kEmbd + b * kRank + c;
        };
        for (uint64_t r = 0; r < kRank; ++r) {
          for (uint64_t c = 0; c < kRank; ++c) {
            double sum = m[(b * kRank + r) * kRank + c];
            for (uint64_t k = 0; k < kRank; ++k) {
              sum += before[at(r, k)] * m[(b * kRank + k) * kRank + c];
            }
            expected[at(r, c)] += sum;
          }
        }
      }
    }
    check_close(values_of(*merged.value().source, kKey + ".weight"), expected);
  }
}

TEST_CASE("Whole tensors of an adapter replace the base's, states are added", "[adapters]") {
  const test::ScratchFolder folder;
  auto merged = merged_with(base_model(folder), AdapterFile("tuned.pth")
                                                    .add("blocks.1.att.w0", {1, 1, kEmbd})
                                                    .add("blocks.0.att.time_state", {1, 64, 64})
                                                    .add(kKey + ".disha", {kRank, kFfn})
                                                    .add(kKey + ".weight", {kFfn, kEmbd})
                                                    .take());
  REQUIRE_OK(merged.status());
  const TensorSource& source = *merged.value().source;
  CHECK(values_of(source, "blocks.1.att.w0") == doubles(noisy(kEmbd, 1)));
  CHECK(values_of(source, "blocks.0.att.time_state") == doubles(noisy(64 * 64, 2)));
  // The matrix that was trained as a whole is what the rest of the adapter adds to.
  Matrix expected = doubles(noisy(kFfn * kEmbd, 4));
  const Matrix d = doubles(noisy(kRank * kFfn, 3));
  for (uint64_t o = 0; o < kFfn; ++o) {
    for (uint64_t i = 0; i < kEmbd; ++i) {
      expected[o * kEmbd + i] += d[i % kRank * kFfn + o];
    }
  }
  check_close(values_of(source, kKey + ".weight"), expected);
  REQUIRE_OK(identify_checkpoint(source).status());
  CHECK_THAT(merged.value().notes.front(),
             Catch::Contains("2 tensors replaced") && Catch::Contains("1 tensors added"));
}

TEST_CASE("A number with dimensions and one without replace each other", "[adapters]") {
  const std::string name = "blocks.0.att.scale";
  for (const bool is_scalar : {false, true}) {
    const std::vector<uint64_t> in_base =
        is_scalar ? std::vector<uint64_t>() : std::vector<uint64_t>{1};
    const std::vector<uint64_t> in_adapter =
        is_scalar ? std::vector<uint64_t>{1} : std::vector<uint64_t>();
    auto base = AdapterFile("base.pth").add("emb.weight", {2, 2}).add(name, in_base).take();
    auto other = AdapterFile("tuned.pth").add("emb.weight", {2, 2}).add(name, in_adapter).take();
    const auto merged = merged_with(std::move(base), std::move(other));
    REQUIRE_OK(merged.status());
    CHECK(values_of(*merged.value().source, name) == doubles(noisy(1, 2)));
    // Two values cannot take the place of one.
    auto again = AdapterFile("base.pth").add("emb.weight", {2, 2}).add(name, in_base).take();
    auto longer = AdapterFile("tuned.pth").add(name, {2}).take();
    const Status refused = merged_with(std::move(again), std::move(longer)).status();
    CHECK(refused.code() == Code::BadInput);
  }
}

TEST_CASE("A model and its adapter in one file are merged", "[adapters]") {
  const test::ScratchFolder folder;
  const auto base = base_model(folder);
  const Matrix before = values_of(*base, kKey + ".weight");
  std::vector<TensorInfo> infos = base->tensors();
  for (TensorInfo& info : infos) {
    info.dtype = DType::F32;
  }
  const size_t n = infos.size();
  infos.push_back({kKey + ".lora_A", DType::F32, {kRank, kEmbd}});
  infos.push_back({kKey + ".lora_B", DType::F32, {kFfn, kRank}});
  const std::string path = folder.file("together.pth");
  REQUIRE_OK(write_checkpoint(
      path, OutputFile::Existing::Refuse, infos, [&](size_t i, std::vector<std::byte>& out) {
        if (i < n) {
          return read_as(*base, i, DType::F32, out);
        }
        encode_from_f32(DType::F32, noisy(infos[i].n_elements(), i - n + 1), out);
        return Status();
      }));
  const auto open = [&] { return std::move(open_checkpoint(path).value().source); };
  auto merged = merge_adapters(open(), {}, {.alpha = 16.0});
  REQUIRE_OK(merged.status());
  CHECK(merged.value().source->tensors().size() == n);
  Matrix expected =
      product(doubles(noisy(kFfn * kRank, 2)), doubles(noisy(kRank * kEmbd, 1)), kRank);
  for (size_t i = 0; i < expected.size(); ++i) {
    expected[i] += before[i];
  }
  check_close(values_of(*merged.value().source, kKey + ".weight"), expected);
  const Status without = merge_adapters(open(), {}, {}).status();
  CHECK(without.code() == Code::Usage);
  CHECK_THAT(without.message(), Catch::Contains("together.pth") && Catch::Contains("--alpha"));
}

TEST_CASE("Adapters that do not fit are refused by name", "[adapters]") {
  const test::ScratchFolder folder;
  struct Case {
    std::vector<std::pair<std::string, std::vector<uint64_t>>> tensors;
    std::vector<std::string> parts;  ///< of the message
  };
  const std::vector<Case> cases = {
      {{{"blocks.5.ffn.key.disha", {kRank, kFfn}}}, {"blocks.5.ffn.key.weight", "another model"}},
      {{{"blocks.0.att.w0.disha", {kRank, kFfn}}}, {"blocks.0.att.w0.weight"}},
      {{{kKey + ".disha", {kRank, kEmbd}}}, {"16x64", "rank x 192"}},
      {{{kKey + ".disha", {kRank}}}, {kKey + ".disha", "rank x 192"}},
      {{{kKey + ".bone", {4, 8, 8}}}, {"4x8x8", "192x64"}},
      {{{kKey + ".bone", {kEmbd, kRank}}}, {"64x16", "last form of Bone"}},
      {{{kKey + ".lora_A", {kRank, kEmbd}}}, {"lora_A", "both factors"}},
      {{{kKey + ".lora_A", {kRank, kEmbd}}, {kKey + ".lora_B", {kFfn, 8}}}, {"16x64", "192x8"}},
      {{{kKey + ".lora_A", {kRank, 32}}, {kKey + ".lora_B", {kFfn, kRank}}}, {"16x32"}},
      {{{"something.else", {4}}}, {"something.else", "neither"}},
      {{{"blocks.0.att.w0", {kEmbd + 1}}}, {"blocks.0.att.w0", "65", "64"}},
  };
  for (const Case& wrong : cases) {
    AdapterFile file("adapter.pth");
    for (const auto& [name, shape] : wrong.tensors) {
      file.add(name, shape);
    }
    const Status status = merged_with(base_model(folder), file.take(), {.alpha = 8.0}).status();
    INFO(status.message());
    CHECK(status.code() == Code::BadInput);
    CHECK_THAT(status.message(), Catch::Contains("adapter.pth"));
    for (const std::string& part : wrong.parts) {
      CHECK_THAT(status.message(), Catch::Contains(part));
    }
  }
  const auto disha = [] {
    return AdapterFile("adapter.pth").add(kKey + ".disha", {kRank, kFfn}).take();
  };
  const Status unused = merged_with(base_model(folder), disha(), {.alpha = 8.0}).status();
  CHECK(unused.code() == Code::Usage);
  CHECK_THAT(unused.message(), Catch::Contains("--alpha"));
  const Status alone = merge_adapters(disha(), {}, {}).status();
  CHECK(alone.code() == Code::BadInput);
  CHECK_THAT(alone.message(), Catch::Contains("adapter (DiSHA)") && Catch::Contains("--merge"));
}

}  // namespace
}  // namespace rwkv::press
