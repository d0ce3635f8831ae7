#include "compressor/predictors/mlp_trainer.h"

#include <algorithm>
#include <bit>

#include "compressor/numerics/tensor_ops.h"
#include "compressor/numerics/threads.h"

namespace rwkv::press {
namespace {

constexpr int64_t kNeurons = 512;  // of a tile: with 128 tokens, their errors fill 256 KB
constexpr int64_t kUnits = 16;     // hidden units of a tile
constexpr int64_t kTokens = 64;    // of a tile of the first product

constexpr AdamOptions kAdam{.mean = AdamOptions::Mean::Weighted};

std::vector<Adam> adam_of_tiles(const at::Tensor& matrix, int64_t tile) {
  std::vector<Adam> tiles;
  for (int64_t first = 0; first < matrix.size(0); first += tile) {
    tiles.emplace_back(matrix.narrow(0, first, std::min(tile, matrix.size(0) - first)), kAdam);
  }
  return tiles;
}

float from_bf16(uint16_t bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

}  // namespace

MlpTrainer::MlpTrainer(at::Tensor fc1, at::Tensor fc2, const at::Tensor& inputs,
                       const MlpTargets& targets)
    : fc1_(std::move(fc1)),
      fc2_(std::move(fc2)),
      inputs_(inputs),
      targets_(targets),
      adam1_(adam_of_tiles(fc1_, kUnits)),
      adam2_(adam_of_tiles(fc2_, kNeurons)),
      back_(adam2_.size()) {}

// d loss / d logits from sigmoid(logits) [count, n], in place: sigmoid - label, times the weight.
void MlpTrainer::weigh_errors(at::Tensor& sigmoids, const int64_t* tokens,
                              int64_t first_neuron) const {
  const int64_t count = sigmoids.size(0);
  const int64_t n = sigmoids.size(1);
  const auto negative = static_cast<float>(1.0 / static_cast<double>(count));
  const auto positive = static_cast<float>(targets_.balance / static_cast<double>(count));
  const auto* weights =
      reinterpret_cast<const uint16_t*>(targets_.weights.data_ptr<at::BFloat16>());
  const int64_t neurons = targets_.weights.size(1);
  for (int64_t row = 0; row < count; ++row) {
    float* const error = sigmoids.data_ptr<float>() + row * n;
    const uint16_t* const weight = weights + tokens[row] * neurons + first_neuron;
    for (int64_t i = 0; i < n; ++i) {
      const float w = from_bf16(weight[i]);
      const float on = w * positive * (error[i] - 1);
      const float off = error[i] * negative;
      error[i] = w > 0 ? on : off;
    }
  }
}

// Gradients by hand: d loss / d fc2 = E^T h, and for fc1 the tile's part of E fc2.
void MlpTrainer::neurons(const int64_t* tokens, int64_t tile, double rate) {
  const int64_t first = tile * kNeurons;
  const at::Tensor weights = fc2_.narrow(0, first, std::min(kNeurons, fc2_.size(0) - first));
  at::Tensor error = at::mm(hidden_, weights.t()).sigmoid_();
  weigh_errors(error, tokens, first);
  const auto at = static_cast<size_t>(tile);
  back_[at] = at::mm(error, weights);
  adam2_[at].step(at::mm(error.t(), hidden_), {.number = steps_, .rate = rate});
}

// d loss / d fc1 = ((E fc2) * [h > 0])^T x, for some hidden units.
void MlpTrainer::units(int64_t tile, double rate1) {
  const int64_t first = tile * kUnits;
  const int64_t n = std::min(kUnits, fc1_.size(0) - first);
  at::Tensor back = back_.front().narrow(1, first, n).contiguous();
  for (size_t i = 1; i < back_.size(); ++i) {
    back.add_(back_[i].narrow(1, first, n));
  }
  back.mul_(at::gt(hidden_.narrow(1, first, n), 0));
  adam1_[static_cast<size_t>(tile)].step(at::mm(back.t(), x_), {.number = steps_, .rate = rate1});
}

void MlpTrainer::step(const int64_t* tokens, int64_t count, double rate1, double rate) {
  ++steps_;
  x_ = at::empty({count, inputs_.size(1)}, at::kFloat);
  hidden_ = at::empty({count, fc1_.size(0)}, at::kFloat);
  in_tiles(count, kTokens, [&](int64_t begin, int64_t end) {
    const int64_t channels = inputs_.size(1);
    const float* const from = inputs_.data_ptr<float>();
    float* const to = x_.data_ptr<float>();
    for (int64_t i = begin; i < end; ++i) {
      std::copy_n(from + tokens[i] * channels, channels, to + i * channels);
    }
    hidden_.narrow(0, begin, end - begin)
        .copy_(at::mm(x_.narrow(0, begin, end - begin), fc1_.t()).relu_());
  });
  in_tiles(static_cast<int64_t>(adam2_.size()), 1,
           [&](int64_t tile, int64_t /*end*/) { neurons(tokens, tile, rate); });
  in_tiles(static_cast<int64_t>(adam1_.size()), 1,
           [&](int64_t tile, int64_t /*end*/) { units(tile, rate1); });
}

}  // namespace rwkv::press
