// Training throughput against the bound that matrix products set: in turns, a whole training step
// (forward, backward, AdamW) of v5.2 and nothing but the products of that step, of the same shapes,
// so that both meet the same machine. Prints tokens/s of both and the share, median and spread.
//   usage: bench_train [LAYERS WIDTH LENGTH BATCH VOCABULARY THREADS ROUNDS]
#include <ATen/Parallel.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <vector>

#include "compressor/checkpoint/open.h"
#include "compressor/numerics/tensor_ops.h"
#include "compressor/train/adamw.h"
#include "compressor/train/gradients.h"
#include "compressor/train/initial_values.h"

namespace {

using namespace rwkv;
using namespace rwkv::press;

struct Sizes {
  int64_t n_layer = 6, n_embd = 256, length = 256, batch = 8, n_vocab = 256, threads = 2,
          rounds = 9;
  int64_t tokens() const { return batch * length; }
};

double seconds(const std::function<void()>& work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

// The three products that a matrix [out, in] costs: y = x W^T, dx = dy W, dW = dy^T x.
void products(const at::Tensor& x, const at::Tensor& w, const at::Tensor& dy, int64_t times) {
  for (int64_t i = 0; i < times; ++i) {
    at::mm(x, w.t());
    at::mm(dy, w);
    at::mm(dy.t(), x);
  }
}

struct Bound {
  at::Tensor x, neurons, logits, square, key, value, head;
  explicit Bound(const Sizes& s, int64_t ffn)
      : x(at::randn({s.tokens(), s.n_embd})),
        neurons(at::randn({s.tokens(), ffn})),
        logits(at::randn({s.tokens(), s.n_vocab})),
        square(at::randn({s.n_embd, s.n_embd})),
        key(at::randn({ffn, s.n_embd})),
        value(at::randn({s.n_embd, ffn})),
        head(at::randn({s.n_vocab, s.n_embd})) {}
  void run(int64_t n_layer) const {
    products(x, square, x, 6 * n_layer);  // r, k, v, g, output, ffn.receptance
    products(x, key, neurons, n_layer);
    products(neurons, value, x, n_layer);
    products(x, head, logits, 1);
  }
};

struct Spread {
  double median, least, most;
};
Spread spread_of(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return {values[values.size() / 2], values.front(), values.back()};
}

Status measure(const Sizes& s) {
  NewModelOptions options{"v5.2", static_cast<uint64_t>(s.n_layer), static_cast<uint64_t>(s.n_embd),
                          static_cast<uint64_t>(s.n_vocab)};
  RWKV_ASSIGN(const auto source, initial_model(options, {}));
  RWKV_ASSIGN(const Identified model, identify_checkpoint(*source));
  RWKV_ASSIGN(const auto network,
              Network::load(*source, model.config, [](const std::string&) { return true; }));
  AdamW optimizer(network->parameters(), {});
  const Batch batch = {at::randint(s.n_vocab, {s.batch, s.length}, at::kLong),
                       at::randint(s.n_vocab, {s.tokens()}, at::kLong)};
  const Bound bound(s, static_cast<int64_t>(model.config.dim_ffn));
  uint64_t step = 0;
  const auto train = [&] {
    add_gradients(*network, nullptr, batch, {}, 1.0 / static_cast<double>(s.tokens()));
    optimizer.step(1e-4, 1.0, ++step);
  };
  train();
  bound.run(s.n_layer);
  std::vector<double> ours;
  std::vector<double> most;
  std::vector<double> share;
  for (int64_t round = 0; round < s.rounds; ++round) {
    const auto tokens = static_cast<double>(s.tokens());
    ours.push_back(tokens / seconds(train));
    most.push_back(tokens / seconds([&] { bound.run(s.n_layer); }));
    share.push_back(ours.back() / most.back());
  }
  const Spread a = spread_of(ours);
  const Spread b = spread_of(most);
  const Spread c = spread_of(share);
  std::printf(
      "v5.2 %ld x %ld, context %ld, batch %ld, vocabulary %ld, %ld threads, %ld rounds, fp32\n"
      "training   %.0f tokens/s (%.0f to %.0f)\nproducts   %.0f tokens/s (%.0f to %.0f)\n"
      "share      %.1f %% (%.1f to %.1f)\n",
      s.n_layer, s.n_embd, s.length, s.batch, s.n_vocab, s.threads, s.rounds, a.median, a.least,
      a.most, b.median, b.least, b.most, 100 * c.median, 100 * c.least, 100 * c.most);
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  Sizes sizes;
  int64_t* const places[] = {&sizes.n_layer, &sizes.n_embd,  &sizes.length, &sizes.batch,
                             &sizes.n_vocab, &sizes.threads, &sizes.rounds};
  for (int i = 1; i < argc && i <= 7; ++i) {
    *places[i - 1] = std::atol(argv[i]);
    if (*places[i - 1] < 1) {
      std::fprintf(stderr, "bench_train: '%s' is no size\n", argv[i]);
      return 2;
    }
  }
  at::set_num_threads(static_cast<int>(sizes.threads));
  const rwkv::Status status = measure(sizes);
  if (!status.ok()) {
    std::fprintf(stderr, "bench_train: %s\n", status.message().c_str());
  }
  return status.ok() ? 0 : 1;
}
