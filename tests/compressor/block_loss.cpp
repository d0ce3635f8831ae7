// What a training block by block minimises: the states that recurrences leave, against plain loops;
// the loss, against its definition; its gradients, against differences.
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>

#include "compressor/model/initial_state.h"
#include "compressor/numerics/tensor_ops.h"
#include "compressor/train/block_loss.h"
#include "tests/compressor/train_testing.h"
#include "tests/support/catch.h"

using namespace rwkv;
using namespace rwkv::test;
using at::Tensor;
using press::BlockValues, press::Parameter;

namespace {

constexpr int64_t kSequences = 2;
constexpr int64_t kLength = 19;
constexpr int64_t kHeads = 2;
constexpr int64_t kHeadSize = 8;
constexpr press::WkvShape kShape = {kLength, kHeads};

Tensor draw(at::Generator& random, at::IntArrayRef shape) {
  return at::randn(shape, random, at::TensorOptions(at::kDouble));
}

// [batch, length, head, size].
Tensor heads(const Tensor& rows) {
  return rows.reshape({kSequences, kLength, kHeads, kHeadSize});
}

// [batch, head, value, key] as rows of keys, as BlockState has it.
Tensor as_rows(const Tensor& state) {
  return state.permute({0, 3, 1, 2}).reshape({kSequences, kHeadSize, kHeads * kHeadSize});
}

// A block of a tiny model with every value changed a little, and its trainable tensors.
struct Perturbed {
  std::unique_ptr<press::Block> block;
  std::vector<Parameter> leaves;

  Perturbed(const TinyModel& tiny, int64_t index, uint64_t seed) {
    const press::Adopt adopt = [&](const std::string& name, Tensor& values) {
      values = values.contiguous().set_requires_grad(true);
      leaves.push_back({name, values});
    };
    auto loaded =
        press::Block::load(press::NamedTensors(*tiny.source, &adopt), tiny.model.config, index);
    REQUIRE_OK(loaded.status());
    block = loaded.take();
    const at::NoGradGuard no_grad;
    at::Generator random = at::detail::createCPUGenerator(seed);
    for (const Parameter& leaf : leaves) {
      Tensor values = leaf.values.detach();
      values.add_(at::randn(values.sizes(), random, at::kFloat), values.dim() > 1 ? 0.12 : 0.05);
      if (leaf.name.ends_with("att.time_decay") && tiny.model.config.version != Version::V4) {
        values.add_(3.0);
      }
    }
  }

  BlockValues run(const Tensor& x, const Tensor& v_first) const {
    BlockValues values;
    Tensor first = v_first;
    values.x = block->forward(x, first, {}, &values.state);
    if (!v_first.defined() && first.defined()) {
      values.v_first = first.reshape({x.size(0), x.size(1), -1});
    }
    return values;
  }
};

BlockValues detached(BlockValues values) {
  values.x = values.x.detach();
  values.v_first = values.v_first.defined() ? values.v_first.detach() : Tensor();
  values.state = {values.state.wkv.detach(), values.state.shift.detach()};
  return values;
}

}  // namespace

TEST_CASE("The state after a sequence is that of a plain loop", "[train][blocks]") {
  at::Generator random = at::detail::createCPUGenerator(3);
  const int64_t n = kSequences * kLength;
  const int64_t dim = kHeads * kHeadSize;
  const Tensor r = draw(random, {n, dim});
  const Tensor k = draw(random, {n, dim});
  const Tensor v = draw(random, {n, dim});
  const Tensor log_w = -draw(random, {n, dim}).exp() * 0.3;
  const Tensor u = draw(random, {dim});
  Tensor found;
  const Tensor y = press::InitialState().wkv_v5({r, k, v, log_w}, u, kShape, &found);
  CHECK(y.equal(press::wkv_v5({r, k, v, log_w}, u, kShape)));
  Tensor state = at::zeros({kSequences, kHeads, kHeadSize, kHeadSize}, at::kDouble);
  for (int64_t t = 0; t < kLength; ++t) {
    const auto at_t = [&](const Tensor& rows) { return heads(rows).select(1, t); };
    state = state * at_t(log_w).exp().unsqueeze(2) + at_t(v).unsqueeze(3) * at_t(k).unsqueeze(2);
  }
  CHECK(at::allclose(found, as_rows(state), 1e-9, 1e-9));

  const Tensor kk = at::silu(draw(random, {n, dim})) * 0.3;
  const Tensor kka = kk * draw(random, {n, dim}).sigmoid();
  const Tensor y7 = press::InitialState().wkv_v7({r, k, v, log_w}, kk, kka, kShape, &found);
  CHECK(y7.equal(press::wkv_v7({r, k, v, log_w}, kk, kka, kShape)));
  state = at::zeros_like(state);
  for (int64_t t = 0; t < kLength; ++t) {
    const auto at_t = [&](const Tensor& rows) { return heads(rows).select(1, t); };
    const Tensor removed = at::matmul(state, at_t(kk).unsqueeze(3));
    state = state * at_t(log_w).exp().unsqueeze(2) - removed * at_t(kka).unsqueeze(2) +
            at_t(v).unsqueeze(3) * at_t(k).unsqueeze(2);
  }
  CHECK(at::allclose(found, as_rows(state), 1e-9, 1e-9));
}

TEST_CASE("A block's state does not change its output, and is handed on", "[train][blocks]") {
  const std::string arch = GENERATE(from_range(kTrainedArchs));
  CAPTURE(arch);
  const TinyModel tiny = make_tiny(arch);
  const Perturbed own(tiny, 0, 5);
  const at::NoGradGuard no_grad;
  at::Generator random = at::detail::createCPUGenerator(9);
  const Tensor x = at::randn({kSequences, kLength, 64}, random, at::kFloat);
  Tensor v_first;
  const Tensor alone = own.block->forward(x, v_first, {});
  const BlockValues values = own.run(x, {});
  CHECK(at::allclose(alone, values.x, 1e-5, 1e-5));
  const bool is_v4 = tiny.model.config.version == Version::V4;
  CHECK(values.state.wkv.sizes() == at::IntArrayRef({kSequences, is_v4 ? 1 : 64, 64}));
  CHECK(values.state.shift.sizes() == at::IntArrayRef({kSequences, 2, 64}));
  CHECK(at::isfinite(values.state.wkv).all().item<bool>());
  CHECK(values.state.wkv.abs().max().item<float>() > 0.0F);
  // A sequence that is longer by a token leaves another state.
  const BlockValues shorter = own.run(x.narrow(1, 0, kLength - 1), {});
  CHECK_FALSE(at::allclose(values.state.wkv, shorter.state.wkv, 1e-3, 1e-5));
  CHECK_FALSE(at::allclose(values.state.shift, shorter.state.shift, 1e-3, 1e-5));
}

TEST_CASE("A block's loss is 0 for the teacher's block and 1 for one that does nothing",
          "[train][blocks]") {
  const Perturbed teacher(make_tiny("v5.2"), 1, 5);
  const at::NoGradGuard no_grad;
  at::Generator random = at::detail::createCPUGenerator(9);
  const Tensor x = at::randn({kSequences, kLength, 64}, random, at::kFloat);
  const BlockValues theirs = teacher.run(x, {});
  const double energy = press::block_energy(theirs.x, x);
  CHECK(energy > 0);
  const auto same = press::block_loss(theirs, theirs, energy, 1.0);
  CHECK(same.errors.output == 0.0);
  CHECK(same.errors.state == 0.0);
  BlockValues nothing = theirs;
  nothing.x = x;
  nothing.state = {at::zeros_like(theirs.state.wkv), at::zeros_like(theirs.state.shift)};
  const auto none = press::block_loss(nothing, theirs, energy, 0.5);
  CHECK(none.errors.output == Approx(1.0).epsilon(1e-5));
  CHECK(none.errors.state == Approx(1.0).epsilon(1e-5));
  CHECK(none.loss.item<double>() == Approx(1.5).epsilon(1e-5));
}

// Along the gradient the loss must change by its square: of the output's error, and of the state's.
TEST_CASE("Gradients of a block's loss are its slopes", "[train][blocks]") {
  const std::string arch = GENERATE(from_range(kTrainedArchs));
  const double state_weight = GENERATE(0.0, 5.0);
  const TinyModel tiny = make_tiny(arch);
  const Perturbed student(tiny, 0, 11);
  const Perturbed teacher(tiny, 0, 12);
  at::Generator random = at::detail::createCPUGenerator(9);
  const Tensor x = at::randn({kSequences, kLength, 64}, random, at::kFloat);
  const BlockValues theirs = detached(teacher.run(x, {}));
  const double energy = press::block_energy(theirs.x, x);
  const auto loss = [&] {
    return press::block_loss(student.run(x, {}), theirs, energy, state_weight);
  };
  const auto here = loss();
  torch::autograd::backward({here.loss}, {});
  const at::NoGradGuard no_grad;
  int n_checked = 0;
  for (const Parameter& leaf : student.leaves) {
    const Tensor gradient = leaf.values.grad();
    if (!gradient.defined()) {
      continue;
    }
    const double slope = gradient.square().sum(at::kDouble).item<double>();
    CAPTURE(arch, state_weight, leaf.name, slope);
    const double step = std::min(0.0001 * here.loss.item<double>() / slope,
                                 0.0007 * std::sqrt(static_cast<double>(gradient.numel()) / slope));
    Tensor values = leaf.values.detach();
    const Tensor before = values.clone();
    values.add_(gradient, step);
    const double above = loss().loss.item<double>();
    values.copy_(before - gradient * step);
    const double below = loss().loss.item<double>();
    values.copy_(before);
    const double expected = 2 * step * slope;
    if (expected > 5e-5) {
      CHECK(std::fabs(above - below - expected) < 0.03 * expected + 3e-6);
      ++n_checked;
    }
  }
  CHECK(n_checked > 8);
}
