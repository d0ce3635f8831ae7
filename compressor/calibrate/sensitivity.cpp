#include "compressor/calibrate/sensitivity.h"

#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <memory>

#include "compressor/model/block.h"
#include "compressor/model/ends.h"
#include "compressor/numerics/random.h"
#include "compressor/numerics/tensor_ops.h"
#include "compressor/numerics/threads.h"

namespace rwkv::press {
namespace {

constexpr int64_t kBatchTokens = 512;  // whose graph of a block is in memory, for each thread
constexpr int64_t kHeadTokens = 128;   // whose logits are

constexpr int64_t kPeaks = 10;  // the part of the positions whose gradients are limited
constexpr uint64_t kLeastPositions = 8192;
constexpr uint64_t kPositionsOfChannel = 4;
// Moments of few positions tell as much of chance as of the model: these many positions for each
// channel count besides, as if all its errors cost the same.
constexpr uint64_t kEvenPositionsOfChannel = 8;

// Some sequences on their way forwards and back.
struct Batch {
  std::vector<at::Tensor> inputs;  ///< of each block, and of ln_out
  at::Tensor v_first;              ///< v7's, of the first block
  at::Tensor gradient;             ///< at the output of the block that is next
  at::Tensor v_first_gradient;     ///< undefined: none so far
};

// The gradients of one block's outputs, by product.
using Gradients = std::map<std::string, at::Tensor>;

void run_forward(const Block& block, Batch& batch) {
  batch.inputs.push_back(block.forward(batch.inputs.back(), batch.v_first, {}));
}

// What is kept of the gradients at the outputs of products.
enum class Products : uint8_t { Kept, Dropped };

// Through the block that is last in batch.inputs, which then is the one before.
Gradients run_back(const Block& block, bool is_first, Products products, Batch& batch) {
  const at::AutoGradMode with_gradients(true);
  batch.inputs.pop_back();
  const at::Tensor x = batch.inputs.back().detach().requires_grad_();
  const bool has_first = batch.v_first.defined();
  at::Tensor v_first =
      has_first && !is_first ? batch.v_first.detach().requires_grad_() : at::Tensor();
  std::vector<std::string> names;
  std::vector<at::Tensor> from = {x};
  if (v_first.defined()) {
    from.push_back(v_first);
  }
  const size_t first_product = from.size();
  const Observe keep = [&](const std::string& name, const at::Tensor& output) {
    if (products == Products::Kept) {
      names.push_back(name);
      from.push_back(output);
    }
  };
  std::vector<at::Tensor> roots = {block.forward_shown(x, v_first, keep)};
  std::vector<at::Tensor> of_roots = {batch.gradient};
  if (is_first && batch.v_first_gradient.defined()) {
    roots.push_back(v_first);
    of_roots.push_back(batch.v_first_gradient);
  }
  const auto found = torch::autograd::grad(roots, from, of_roots, /*retain_graph=*/false,
                                           /*create_graph=*/false, /*allow_unused=*/true);
  batch.gradient = found[0];
  if (first_product > 1 && found[1].defined()) {
    batch.v_first_gradient =
        batch.v_first_gradient.defined() ? batch.v_first_gradient + found[1] : found[1];
  }
  Gradients gradients;
  for (size_t i = 0; i < names.size(); ++i) {
    const at::Tensor& g = found[first_product + i];
    gradients[names[i]] =
        (g.defined() ? g : at::zeros_like(from[first_product + i])).detach().to(at::kBFloat16);
  }
  return gradients;
}

// d ln p(drawn token) / d z = head[token] - p head, for positions z [n, n_embd].
at::Tensor gradient_at_head(const at::Tensor& z, const at::Tensor& head, uint64_t seed,
                            int64_t first_position) {
  at::Tensor p = at::mm(z, head.t()).softmax(1);
  const at::Tensor drawn = at::empty({z.size(0)}, at::kLong);
  for (int64_t i = 0; i < z.size(0); ++i) {
    SplitMixRandom random(mix64(seed + static_cast<uint64_t>(first_position + i) * kGolden));
    const float* const row = p.data_ptr<float>() + i * p.size(1);
    double left = random.uniform();
    int64_t token = 0;
    while (token + 1 < p.size(1) && (left -= static_cast<double>(row[token])) >= 0) {
      ++token;
    }
    drawn.data_ptr<int64_t>()[i] = token;
  }
  return head.index_select(0, drawn) - at::mm(p, head);
}

// Sets the gradients at the output of the last block.
Status begin_back(const TensorSource& source, std::vector<Batch>& batches, int64_t length,
                  uint64_t seed) {
  const NamedTensors named(source);
  RWKV_ASSIGN(const LayerNorm ln_out, load_layer_norm(named, "ln_out"));
  RWKV_ASSIGN(const at::Tensor head, load_named(source, "head.weight"));
  int64_t position = 0;
  for (Batch& batch : batches) {
    const at::AutoGradMode with_gradients(true);
    const at::Tensor x = batch.inputs.back().detach().requires_grad_();
    const at::Tensor z = ln_out.apply(x.reshape({-1, x.size(2)}));
    at::Tensor at_head = at::empty_like(z.detach());
    in_tiles(z.size(0), kHeadTokens, [&](int64_t begin, int64_t end) {
      const at::NoGradGuard no_grad;
      at_head.narrow(0, begin, end - begin)
          .copy_(gradient_at_head(z.detach().narrow(0, begin, end - begin), head, seed,
                                  position + begin));
    });
    // The last position of a sequence predicts nothing that is known.
    at_head.view({-1, length, z.size(1)}).select(1, length - 1).zero_();
    batch.gradient = torch::autograd::grad({z}, {x}, {at_head}).front();
    position += z.size(0);
  }
  return {};
}

Result<std::vector<Batch>> forward(const TensorSource& source, const ModelConfig& config,
                                   const at::Tensor& tokens,
                                   const std::function<void(double share)>& progress) {
  const int64_t per_batch = std::max<int64_t>(1, kBatchTokens / tokens.size(1));
  std::vector<Batch> batches;
  for (int64_t first = 0; first < tokens.size(0); first += per_batch) {
    const int64_t n = std::min(per_batch, tokens.size(0) - first);
    RWKV_ASSIGN(at::Tensor x, embed(source, config, tokens.narrow(0, first, n)));
    batches.push_back({{std::move(x)}, {}, {}, {}});
  }
  for (uint64_t i = 0; i < config.n_layer; ++i) {
    RWKV_ASSIGN(const auto block, Block::load(source, config, static_cast<int64_t>(i)));
    in_tiles(static_cast<int64_t>(batches.size()), 1, [&](int64_t batch, int64_t /*end*/) {
      const at::NoGradGuard no_grad;
      run_forward(*block, batches[static_cast<size_t>(batch)]);
    });
    progress(static_cast<double>(i + 1) / static_cast<double>(3 * config.n_layer));
  }
  return batches;
}

Result<Sensitivity> measure(const TensorSource& source, const ModelConfig& config,
                            const at::Tensor& tokens, uint64_t seed, Products products,
                            const std::function<void(double share)>& progress) {
  RWKV_ASSIGN(std::vector<Batch> batches, forward(source, config, tokens, progress));
  RWKV_TRY(begin_back(source, batches, tokens.size(1), seed));
  Sensitivity result;
  result.products.resize(config.n_layer);
  for (uint64_t i = config.n_layer; i-- > 0;) {
    RWKV_ASSIGN(const auto block, Block::load(source, config, static_cast<int64_t>(i)));
    std::vector<Gradients> found(batches.size());
    in_tiles(static_cast<int64_t>(batches.size()), 1, [&](int64_t batch, int64_t /*end*/) {
      const auto at = static_cast<size_t>(batch);
      found[at] = run_back(*block, i == 0, products, batches[at]);
    });
    for (const auto& [name, first] : found.front()) {
      std::vector<at::Tensor> parts;
      for (Gradients& of_batch : found) {
        parts.push_back(of_batch.at(name));
      }
      result.products[i][name] = at::cat(parts, 0);
    }
    progress(1.0 - static_cast<double>(2 * i) / static_cast<double>(3 * config.n_layer));
  }
  std::vector<at::Tensor> parts;
  for (const Batch& batch : batches) {
    parts.push_back(batch.gradient.reshape({-1, batch.gradient.size(2)}));
  }
  result.embedding = at::cat(parts, 0);
  return result;
}

// Gradients [positions, n]: those of the largest norms are shortened to that of the one before.
at::Tensor without_peaks(const at::Tensor& gradients) {
  const at::Tensor norms = at::sqrt(gradients.square().sum(1, false, at::kDouble));
  std::vector<double> sorted(norms.data_ptr<double>(), norms.data_ptr<double>() + norms.numel());
  const auto most = sorted.end() - 1 - norms.numel() / kPeaks;
  std::nth_element(sorted.begin(), most, sorted.end());
  return *most > 0 ? gradients * (*most / norms.clamp_min(*most)).to(at::kFloat).unsqueeze(1)
                   : gradients;
}

}  // namespace

Result<Sensitivity> measure_sensitivity(const TensorSource& source, const ModelConfig& config,
                                        const at::Tensor& tokens, uint64_t seed,
                                        const std::function<void(double share)>& progress) {
  return measure(source, config, tokens, seed, Products::Kept, progress);
}

Result<at::Tensor> embedding_moments(const TensorSource& source, const ModelConfig& config,
                                     const at::Tensor& tokens, uint64_t seed,
                                     const std::function<void(double share)>& progress) {
  const auto positions = static_cast<int64_t>(
      embedding_positions(config.n_embd, static_cast<uint64_t>(tokens.numel())));
  const int64_t samples = std::max<int64_t>(1, positions / tokens.size(1));
  const at::Tensor chosen = at::empty({samples}, at::kLong);
  for (int64_t i = 0; i < samples; ++i) {
    chosen.data_ptr<int64_t>()[i] = i * tokens.size(0) / samples;
  }
  RWKV_ASSIGN(const Sensitivity found, measure(source, config, tokens.index_select(0, chosen), seed,
                                               Products::Dropped, progress));
  const SingleThread one;
  const at::Tensor gradients = without_peaks(found.embedding);
  at::Tensor moments = at::mm(gradients.t(), gradients) / static_cast<double>(gradients.size(0));
  const auto even = static_cast<double>(kEvenPositionsOfChannel * config.n_embd);
  const double mean = moments.diagonal().mean().item<double>();
  const double share = even / (even + static_cast<double>(gradients.size(0)));
  moments.mul_(1 - share).diagonal().add_(mean * share);
  return moments;
}

uint64_t embedding_positions(uint64_t n_embd, uint64_t tokens) {
  return std::min(tokens, std::max(kLeastPositions, kPositionsOfChannel * n_embd));
}

}  // namespace rwkv::press
