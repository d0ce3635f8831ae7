// Activations on their way through the blocks: what observers see, with any number of threads, and
// that only what is asked for is computed.
#include <ATen/Parallel.h>

#include <map>

#include "compressor/calibrate/walk.h"
#include "compressor/checkpoint/open.h"
#include "compressor/numerics/random.h"
#include "compressor/numerics/tensor_ops.h"
#include "tests/compressor/press_testing.h"
#include "tests/support/catch.h"

using namespace rwkv;
using namespace rwkv::test;
using press::Block, press::Walk;

namespace {

struct Model {
  ScratchFolder scratch;
  press::Checkpoint checkpoint;
  ModelConfig config;

  explicit Model(const std::string& arch) {
    auto opened = press::open_checkpoint(write_synth(scratch, arch));
    REQUIRE_OK(opened.status());
    checkpoint = opened.take();
    const auto identified = press::identify_checkpoint(*checkpoint.source);
    REQUIRE_OK(identified.status());
    config = identified.value().config;
  }

  std::unique_ptr<Block> block(int64_t index) const {
    auto loaded = Block::load(*checkpoint.source, config, index);
    REQUIRE_OK(loaded.status());
    return loaded.take();
  }

  Walk begin(int64_t samples, int64_t length) const {
    press::SplitMixRandom random(5);
    const at::Tensor tokens = at::empty({samples, length}, at::kLong);
    for (int64_t i = 0; i < tokens.numel(); ++i) {
      tokens.data_ptr<int64_t>()[i] = static_cast<int64_t>(random.remainder(config.n_vocab));
    }
    auto walk = Walk::begin(*checkpoint.source, config, tokens);
    REQUIRE_OK(walk.status());
    return walk.take();
  }
};

// What an observer saw, in order.
struct Record {
  std::vector<std::string> names;
  std::vector<at::Tensor> inputs;

  press::Observe observer() {
    return [this](const std::string& name, const at::Tensor& x) {
      names.push_back(name);
      inputs.push_back(x.clone());
    };
  }
};

bool same(const Record& a, const Record& b) {
  bool equal = a.names == b.names;
  for (size_t i = 0; equal && i < a.inputs.size(); ++i) {
    equal = at::equal(a.inputs[i], b.inputs[i]);
  }
  return equal;
}

}  // namespace

TEST_CASE("Inputs that are shown alone are those of the whole block", "[walk]") {
  const std::string arch = GENERATE("v4", "v5.0", "v5.2", "v6", "v7", "x059");
  CAPTURE(arch);
  const Model model(arch);
  Walk walk = model.begin(3, 20);
  for (int64_t index = 0; index < 2; ++index) {
    const auto block = model.block(index);
    Record whole;
    const Walk before = walk;
    walk.advance(*block, whole.observer());
    REQUIRE(whole.names.size() == block->linears.size());
    for (size_t i = 0; i < whole.names.size(); ++i) {
      for (const Walk::Products& asked :
           {Walk::Products{whole.names[i]}, {whole.names[i], whole.names.front()}}) {
        Record alone;
        Walk same_place = before;
        same_place.observe(*block, asked, alone.observer());
        REQUIRE((alone.names.back() == whole.names[i] || i == 0));
        CHECK(at::equal(alone.inputs.back(), whole.inputs[i]));
        CHECK(at::equal(same_place.hidden(), before.hidden()));
      }
    }
  }
}

TEST_CASE("A walk is the same with any number of threads", "[walk]") {
  const std::string arch = GENERATE("v5.2", "v7");
  CAPTURE(arch);
  const Model model(arch);
  std::vector<Record> records;
  std::vector<at::Tensor> hidden;
  const int before = at::get_num_threads();
  for (const int n : {1, 2, 5}) {
    at::set_num_threads(n);
    Walk walk = model.begin(48, 256);
    REQUIRE(walk.n_batches() == 3);
    Record& record = records.emplace_back();
    walk.observe(*model.block(0), {"att.key"}, record.observer());
    CHECK(record.names == std::vector<std::string>(3, "att.key"));
    walk.advance(*model.block(0), record.observer(), {"ffn.value", "att.key"});
    walk.advance(*model.block(1), {});
    hidden.push_back(walk.hidden());
  }
  at::set_num_threads(before);
  CHECK(records.front().names.size() == 9);
  for (size_t i = 1; i < records.size(); ++i) {
    CHECK(same(records[i], records.front()));
    CHECK(at::equal(hidden[i], hidden.front()));
  }
}

TEST_CASE("Outputs of products can be seen as well as inputs", "[walk]") {
  const std::string arch = GENERATE("v4", "v5.2", "v6", "v7");
  const Model model(arch);
  const auto block = model.block(0);
  const at::Tensor x = at::ones({2, 5, static_cast<int64_t>(model.config.n_embd)});
  std::map<std::string, at::Tensor> inputs;
  std::map<std::string, at::Tensor> outputs;
  at::Tensor v_first;
  const at::Tensor whole = block->forward(
      x, v_first, [&](const std::string& name, const at::Tensor& in) { inputs[name] = in; });
  const at::Tensor shown = block->forward_shown(
      x, v_first, [&](const std::string& name, const at::Tensor& out) { outputs[name] = out; });
  CHECK(at::equal(whole, shown));
  REQUIRE(outputs.size() == block->linears.size());
  for (const auto& [name, out] : outputs) {
    CHECK(at::equal(out, block->linears.at(name).apply(inputs.at(name))));
  }
}
