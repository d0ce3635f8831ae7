// One block's training against the bound that its matrix products set: in turns, a whole step
// (forward, loss, backward, AdamW) of a block and nothing but its products, of the same shapes and
// in the same precision, so that both meet the same machine. Prints tokens/s of both and the share,
// median and spread.
//   usage: bench_block CHECKPOINT [LENGTH BATCH THREADS ROUNDS fp32|bf16]
// An x058 of `rwkv-press synth` is a v5.2 with projections as factor pairs of rank WIDTH / 8.
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <vector>

#include "compressor/checkpoint/open.h"
#include "compressor/numerics/tensor_ops.h"
#include "compressor/train/adamw.h"
#include "compressor/train/block_loss.h"

namespace {

using namespace rwkv;
using namespace rwkv::press;

struct Sizes {
  int64_t length = 256, batch = 8, threads = 2, rounds = 9;
  Precision precision = Precision::F32;
  int64_t tokens() const { return batch * length; }
};

double seconds(const std::function<void()>& work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

// The matrices of a block's products, and what goes in and out of each.
class Bound {
 public:
  Bound(const Block& block, const Sizes& sizes) {
    const auto type = sizes.precision == Precision::Bf16 ? at::kBFloat16 : at::kFloat;
    const auto add = [&](const at::Tensor& matrix) {
      const at::Tensor w = matrix.detach().to(type).clone();
      products_.push_back({at::randn({sizes.tokens(), w.size(1)}).to(type), w,
                           at::randn({sizes.tokens(), w.size(0)}).to(type)});
    };
    for (const auto& [name, linear] : block.linears) {
      if (!linear.is_pair()) {
        add(linear.dense);
        continue;
      }
      add(linear.factor_a);
      add(linear.factor_b);
    }
  }
  // y = x W^T, dx = dy W, dW = dy^T x.
  void run() const {
    for (const Product& each : products_) {
      at::mm(each.x, each.w.t());
      at::mm(each.dy, each.w);
      at::mm(each.dy.t(), each.x);
    }
  }

 private:
  struct Product {
    at::Tensor x, w, dy;
  };
  std::vector<Product> products_;
};

struct Spread {
  double median, least, most;
};
Spread spread_of(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return {values[values.size() / 2], values.front(), values.back()};
}

Status measure(const std::string& path, const Sizes& sizes) {
  RWKV_ASSIGN(const Checkpoint checkpoint, open_checkpoint(path));
  RWKV_ASSIGN(const Identified model, identify_checkpoint(*checkpoint.source));
  const auto n_embd = static_cast<int64_t>(model.config.n_embd);
  std::vector<Parameter> leaves;
  const Adopt adopt = [&](const std::string& name, at::Tensor& values) {
    values = values.contiguous().set_requires_grad(true);
    leaves.push_back({name, values});
  };
  RWKV_ASSIGN(const auto block,
              Block::load(NamedTensors(*checkpoint.source, &adopt), model.config, 0));
  block->precision = sizes.precision;
  AdamW optimizer(leaves, {});
  const at::Tensor x = at::randn({sizes.batch, sizes.length, n_embd});
  const auto run = [&] {
    BlockValues values;
    at::Tensor v_first;
    values.x = block->forward(x, v_first, {}, &values.state);
    return values;
  };
  BlockValues theirs = run();
  theirs.x = theirs.x.detach() + at::randn(theirs.x.sizes());
  theirs.state = {theirs.state.wkv.detach() + 1, theirs.state.shift.detach() + 1};
  const Bound bound(*block, sizes);
  uint64_t number = 0;
  const auto step = [&] {
    torch::autograd::backward({block_loss(run(), theirs, 1.0, 0.1).loss}, {});
    optimizer.step(1e-4, 1.0, ++number);
  };
  step();
  bound.run();
  std::vector<double> ours, most, share;
  for (int64_t round = 0; round < sizes.rounds; ++round) {
    const auto tokens = static_cast<double>(sizes.tokens());
    ours.push_back(tokens / seconds(step));
    most.push_back(tokens / seconds([&] { bound.run(); }));
    share.push_back(ours.back() / most.back());
  }
  const Spread a = spread_of(ours);
  const Spread b = spread_of(most);
  const Spread c = spread_of(share);
  std::printf(
      "%s, a block of %ld, context %ld, batch %ld, %ld threads, %ld rounds, %s\n"
      "block      %.0f tokens/s (%.0f to %.0f)\nproducts   %.0f tokens/s (%.0f to %.0f)\n"
      "share      %.1f %% (%.1f to %.1f)\n",
      describe(model.config).c_str(), n_embd, sizes.length, sizes.batch, sizes.threads,
      sizes.rounds, sizes.precision == Precision::Bf16 ? "bf16" : "fp32", a.median, a.least, a.most,
      b.median, b.least, b.most, 100 * c.median, 100 * c.least, 100 * c.most);
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  Sizes sizes;
  int64_t* const places[] = {&sizes.length, &sizes.batch, &sizes.threads, &sizes.rounds};
  if (argc < 2) {
    std::fprintf(stderr, "usage: bench_block CHECKPOINT [LENGTH BATCH THREADS ROUNDS fp32|bf16]\n");
    return 2;
  }
  for (int i = 2; i < argc && i <= 5; ++i) {
    *places[i - 2] = std::atol(argv[i]);
    if (*places[i - 2] < 1) {
      std::fprintf(stderr, "bench_block: '%s' is no size\n", argv[i]);
      return 2;
    }
  }
  sizes.precision =
      argc > 6 && std::strcmp(argv[6], "bf16") == 0 ? Precision::Bf16 : Precision::F32;
  at::set_num_threads(static_cast<int>(sizes.threads));
  const rwkv::Status status = measure(argv[1], sizes);
  if (!status.ok()) {
    std::fprintf(stderr, "bench_block: %s\n", status.message().c_str());
  }
  return status.ok() ? 0 : 1;
}
