// The compressor's forward pass in LibTorch: the same logits as the runtime for every version, what
// observers see, products replaced by pairs, sources that lack a tensor.
#include <ATen/Parallel.h>

#include <memory>
#include <set>

#include "compressor/checkpoint/open.h"
#include "compressor/checkpoint/synth.h"
#include "compressor/model/block.h"
#include "compressor/model/ends.h"
#include "compressor/model/wkv.h"
#include "compressor/numerics/tensor_ops.h"
#include "tests/compressor/press_testing.h"
#include "tests/support/catch.h"

using namespace rwkv;
using namespace rwkv::test;
using press::Block, press::Linear;

namespace {

const std::vector<std::string> kArchs = {"v4", "v5.0", "v5.1", "v5.2", "v6", "v7", "x058", "x059"};

// A checkpoint with all of its blocks.
struct Loaded {
  std::unique_ptr<TensorSource> source;
  ModelConfig config;
  std::vector<std::unique_ptr<Block>> blocks;
};

Loaded load(const std::string& path) {
  Loaded model;
  auto checkpoint = press::open_checkpoint(path);
  REQUIRE_OK(checkpoint.status());
  model.source = std::move(checkpoint.value().source);
  auto identified = press::identify_checkpoint(*model.source);
  REQUIRE_OK(identified.status());
  model.config = identified.value().config;
  for (uint64_t i = 0; i < model.config.n_layer; ++i) {
    auto block = Block::load(*model.source, model.config, static_cast<int64_t>(i));
    REQUIRE_OK(block.status());
    model.blocks.push_back(block.take());
  }
  return model;
}

std::string write_small(const ScratchFolder& scratch, const std::string& arch) {
  press::SynthOptions options;
  options.model.arch = arch;
  options.model.n_layer = 3;
  options.model.n_embd = 128;
  options.model.n_vocab = 100;
  options.output = scratch.file(arch + ".pth");
  REQUIRE_OK(press::write_synthetic(options).status());
  return options.output;
}

at::Tensor to_tensor(const std::vector<std::vector<int32_t>>& sequences) {
  std::vector<int64_t> flat;
  for (const auto& sequence : sequences) {
    flat.insert(flat.end(), sequence.begin(), sequence.end());
  }
  return at::tensor(flat).reshape({static_cast<int64_t>(sequences.size()), -1});
}

at::Tensor embed(const Loaded& model, const std::vector<std::vector<int32_t>>& sequences) {
  auto x = press::embed(*model.source, model.config, to_tensor(sequences));
  REQUIRE_OK(x.status());
  return x.take();
}

at::Tensor run_blocks(const Loaded& model, at::Tensor x, const press::Observe& observe = nullptr) {
  at::Tensor v_first;
  for (const auto& block : model.blocks) {
    x = block->forward(x, v_first, observe);
  }
  return x;
}

std::vector<float> to_vector(const at::Tensor& tensor) {
  const at::Tensor flat = tensor.contiguous();
  return {flat.data_ptr<float>(), flat.data_ptr<float>() + flat.numel()};
}

// [batch, length * n_vocab]
at::Tensor logits_of(const Loaded& model, const std::vector<std::vector<int32_t>>& sequences) {
  const at::Tensor hidden = run_blocks(model, embed(model, sequences));
  auto normed = press::head_input(*model.source, hidden.flatten(0, 1));
  REQUIRE_OK(normed.status());
  auto head = press::load_named(*model.source, "head.weight");
  REQUIRE_OK(head.status());
  return at::linear(normed.value(), head.value()).reshape({hidden.size(0), -1});
}

// Against the runtime; and two sequences in a batch as each by itself.
void check_logits(const std::string& name, const std::string& path,
                  const std::vector<int32_t>& tokens) {
  const ScratchFolder scratch;
  const auto runtime = convert_and_open(path, scratch.file("m.gguf"), {"fp32", "", {}});
  const Loaded model = load(path);
  const std::vector<int32_t> backwards(tokens.rbegin(), tokens.rend());
  const at::Tensor logits = logits_of(model, {tokens, backwards});
  for (const auto& [row, sequence] : {std::pair(0, tokens), std::pair(1, backwards)}) {
    const std::vector<float> here = to_vector(logits[row]);
    const double error = max_difference(here, all_logits(runtime, sequence, 8));
    fmt::print("{:<12} LibTorch logits {:.1e}\n", name, error);
    CHECK(error < 1e-3);
    // Products may round differently for another number of rows, hence not bit for bit.
    CHECK(max_difference(to_vector(logits_of(model, {sequence})), here) < 1e-4);
  }
}

// U S V^T as a pair of full rank.
Linear full_rank_pair(const Linear& linear) {
  const auto [u, s, vt] = at::linalg_svd(linear.dense, /*full_matrices=*/false);
  Linear pair;
  pair.factor_a = vt;
  pair.factor_b = u * s;
  return pair;
}

// A source without one of its tensors.
class Without final : public TensorSource {
 public:
  Without(const TensorSource& source, std::string_view name)
      : source_(source), tensors_(source.tensors()) {
    for (TensorInfo& tensor : tensors_) {
      tensor.name = tensor.name == name ? "elsewhere" : tensor.name;
    }
  }
  std::string_view format() const override { return source_.format(); }
  const std::string& path() const override { return source_.path(); }
  const std::vector<TensorInfo>& tensors() const override { return tensors_; }
  Status read(size_t index, std::vector<std::byte>& out) const override {
    return source_.read(index, out);
  }

 private:
  const TensorSource& source_;
  std::vector<TensorInfo> tensors_;
};

}  // namespace

TEST_CASE("LibTorch's forward pass gives the runtime's logits of golden checkpoints", "[model]") {
  const std::string name = GENERATE("v4-A-bf16", "v5.0-A-bf16", "v5.1-A-bf16", "v5.2-A-bf16",
                                    "v6-A-bf16", "v7-A-bf16", "x058-A-bf16");
  const auto checkpoint = test_data("golden/" + name + ".pth", "LibTorch logits of " + name);
  const auto tokens_file = test_data("golden/tokens-A.i32", "golden tokens");
  if (!checkpoint || !tokens_file) {
    return;
  }
  check_logits(name, *checkpoint, read_i32(*tokens_file));
}

TEST_CASE("LibTorch's forward pass gives the runtime's logits of synthetic models", "[model]") {
  const std::string arch = GENERATE(from_range(kArchs));
  const ScratchFolder scratch;
  std::vector<int32_t> tokens;
  for (int32_t i = 0; i < 40; ++i) {
    tokens.push_back(i * i % 97);
  }
  check_logits(arch, write_small(scratch, arch), tokens);
}

TEST_CASE("Observers see every product of a block with its input", "[model]") {
  const std::string arch = GENERATE(from_range(kArchs));
  const ScratchFolder scratch;
  const Loaded model = load(write_small(scratch, arch));
  const std::map<std::string, Linear>& linears = model.blocks[0]->linears;
  CHECK(linears.count("att.gate") == (arch == "v4" || arch == "v5.0" || arch == "v7" ? 0 : 1));
  CHECK(linears.count("ffn.receptance") == (arch == "v7" ? 0 : 1));
  CHECK(linears.at("att.key").is_pair() == (arch == "x058" || arch == "x059"));

  std::multiset<std::string> seen;
  run_blocks(model, embed(model, {{1, 2, 3}, {4, 5, 6}}),
             [&](const std::string& name, const at::Tensor& input) {
               seen.insert(name);
               const Linear& linear = linears.at(name);
               const int64_t n_in = (linear.is_pair() ? linear.factor_a : linear.dense).size(1);
               CHECK(input.sizes() == at::IntArrayRef({6, n_in}));
             });
  std::multiset<std::string> expected;
  for (const auto& block : model.blocks) {
    for (const auto& [name, linear] : block->linears) {
      expected.insert(name);
    }
  }
  CHECK(seen == expected);
}

TEST_CASE("A product replaced by a pair of full rank gives the same output", "[model]") {
  const std::string arch = GENERATE(from_range(kArchs));
  const ScratchFolder scratch;
  const Loaded model = load(write_small(scratch, arch));
  const at::Tensor x = embed(model, {{1, 2, 3, 4}, {5, 6, 7, 8}});
  const at::Tensor expected = run_blocks(model, x);
  for (auto& [name, linear] : model.blocks[1]->linears) {
    if (linear.is_pair()) {
      continue;
    }
    const Linear original = linear;
    linear = full_rank_pair(original);
    CAPTURE(name);
    CHECK((run_blocks(model, x) - expected).abs().max().item<float>() < 1e-3f);
    // That the pair is used at all; a group norm would hide a mere factor.
    linear.factor_b = -linear.factor_b;
    CHECK((run_blocks(model, x) - expected).abs().max().item<float>() > 1e-3f);
    linear = original;
  }
}

TEST_CASE("Pairs multiply as their form says", "[model]") {
  Linear linear;
  linear.factor_a = at::tensor({1.0f, -1.0f, 2.0f, 0.5f}).reshape({2, 2});
  linear.factor_b = at::tensor({1.0f, 10.0f, -1.0f, 3.0f}).reshape({2, 2});
  const at::Tensor x = at::tensor({1.0f, 4.0f}).reshape({1, 2});  // A x = (-3, 4)
  const auto apply = [&] { return to_vector(linear.apply(x)); };
  CHECK(apply() == std::vector<float>{37.0f, 15.0f});
  linear.diagonal = at::tensor({100.0f, 1000.0f});
  CHECK(apply() == std::vector<float>{137.0f, 4015.0f});
  linear.squares = true;
  CHECK(apply() == std::vector<float>{260.0f, 4048.0f});
}

TEST_CASE("A source that lacks a tensor is refused with its name", "[model]") {
  const ScratchFolder scratch;
  const auto [arch, name] = GENERATE(table<const char*, const char*>({
      {"v4", "blocks.1.att.time_first"},
      {"v5.0", "blocks.1.att.ln_x.bias"},
      {"v5.1", "blocks.1.att.time_mix_g"},
      {"v5.2", "blocks.1.att.key.weight"},
      {"v6", "blocks.1.att.time_maa_w2"},
      {"v7", "blocks.1.att.v1"},
      {"v7", "blocks.1.ffn.x_k"},
      {"x058", "blocks.1.att.gate2.weight"},
      {"x059", "blocks.1.ln2.weight"},
  }));
  const Loaded model = load(write_small(scratch, arch));
  const Without source(*model.source, name);
  const auto block = Block::load(source, model.config, 1);
  REQUIRE_FALSE(block.ok());
  CHECK(block.status().code() == Code::BadInput);
  CHECK_THAT(block.status().message(), Catch::Contains(name));
  REQUIRE_OK(Block::load(source, model.config, 2).status());
}

TEST_CASE("The ends of a model refuse what is missing and foreign tokens", "[model]") {
  const ScratchFolder scratch;
  Loaded model = load(write_small(scratch, "v5.2"));
  const auto message_of = [&](const TensorSource& source, const std::vector<int32_t>& tokens) {
    const auto x = press::embed(source, model.config, to_tensor({tokens}));
    REQUIRE_FALSE(x.ok());
    CHECK(x.status().code() == Code::BadInput);
    return x.status().message();
  };
  CHECK_THAT(message_of(*model.source, {1, 100}), Catch::Contains("100"));
  CHECK_THAT(message_of(*model.source, {-1, 2}), Catch::Contains("-1"));
  CHECK_THAT(message_of(Without(*model.source, "emb.weight"), {1}), Catch::Contains("emb.weight"));
  CHECK_THAT(message_of(Without(*model.source, "blocks.0.ln0.bias"), {1}),
             Catch::Contains("blocks.0.ln0.bias"));
  const auto normed =
      press::head_input(Without(*model.source, "ln_out.weight"), at::zeros({1, 128}));
  REQUIRE_FALSE(normed.ok());
  CHECK_THAT(normed.status().message(), Catch::Contains("ln_out.weight"));
  // Rows that have ln0 already are taken as they are, and ln0 is not looked for.
  model.config.ln0_folded = true;
  auto row =
      press::embed(Without(*model.source, "blocks.0.ln0.bias"), model.config, to_tensor({{99}}));
  REQUIRE_OK(row.status());
  CHECK(row.value()[0][0].equal(press::load_named(*model.source, "emb.weight").value()[99]));
}

TEST_CASE("The recurrences give the same bits with any number of threads", "[model]") {
  const int n_threads = at::get_num_threads();
  constexpr int64_t kLength = 5;
  const auto input = [](double step) {
    return (at::arange(3 * kLength * 168, at::kFloat) * step).sin().reshape({3 * kLength, 168});
  };
  const at::Tensor r = input(1.0);
  const at::Tensor k = input(1.1);
  const at::Tensor v = input(1.2);
  const at::Tensor w = input(1.3).sigmoid();
  const at::Tensor w_0 = w[0].contiguous();
  const at::Tensor u = input(1.4)[0].contiguous();
  const auto all = [&] {
    const press::WkvShape shape{kLength, 4};
    return at::stack({press::wkv_v4(k, v, -w_0, u, kLength), press::wkv_v5({r, k, v, w}, u, shape),
                      press::wkv_v5({r, k, v, w_0}, u, shape),
                      press::wkv_v7({r, k, v, w}, r, k, shape)});
  };
  at::set_num_threads(1);
  const at::Tensor expected = all();
  at::set_num_threads(3);
  CHECK(all().equal(expected));
  at::set_num_threads(n_threads);
}
