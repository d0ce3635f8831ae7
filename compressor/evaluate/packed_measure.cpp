#include "compressor/evaluate/packed_measure.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <vector>

#include "compressor/evaluate/agreement.h"
#include "compressor/evaluate/reference.h"
#include "compressor/numerics/tensor_ops.h"
#include "runtime/bench/measure.h"
#include "runtime/text/scoring.h"

namespace rwkv::press {
namespace {

// Decoded one by one to see what a token touches and how long it takes.
constexpr size_t kDecoded = 256;
constexpr size_t kDecodedSlowly = 24;  // from a storage that is slowed down

Status score_all(edge::Evaluator& evaluator, const std::vector<int32_t>& ids, size_t length,
                 std::optional<Reference>& reference, PackedMeasure& measure) {
  const size_t n_vocab = evaluator.model().config().n_vocab;
  edge::Score sum;
  double kl = 0;
  for (size_t at = 0; at + length <= ids.size(); at += length) {
    const std::span<const int32_t> tokens = std::span(ids).subspan(at, length);
    if (reference) {
      reference->start();
    }
    const auto visit = [&](size_t first, std::span<const int32_t> next,
                           std::span<const float> logits) -> Status {
      std::span<const float> expected;
      if (reference) {
        RWKV_ASSIGN(expected, reference->logits(tokens.subspan(first, next.size())));
      }
      for (size_t t = 0; t < next.size(); ++t) {
        const auto row = logits.subspan(t * n_vocab, n_vocab);
        const double nats = edge::negative_log_likelihood(row, next[t]);
        ++sum.n_tokens;
        sum.nats += nats;
        sum.squared_nats += nats * nats;
        kl += reference ? compare_logits(expected.subspan(t * n_vocab, n_vocab), row).kl : 0;
      }
      return {};
    };
    RWKV_TRY(edge::predict_tokens(evaluator, tokens, visit));
  }
  measure.nats_per_token = sum.nats_per_token();
  measure.standard_error = sum.standard_error();
  measure.kl = std::max(0.0, kl / static_cast<double>(std::max<uint64_t>(1, sum.n_tokens)));
  return {};
}

Status decode(edge::Evaluator& evaluator, std::span<const int32_t> ids, PackedMeasure& measure) {
  edge::State state = evaluator.model().empty_state();
  edge::Decoding decoding;
  RWKV_TRY(edge::decode_each(evaluator, state, ids, decoding));
  measure.touched_per_token =
      static_cast<double>(decoding.touched) / static_cast<double>(decoding.n_tokens);
  measure.tokens_per_second = edge::spread_of(std::move(decoding.rates)).median;
  return {};
}

}  // namespace

Result<PackedMeasure> measure_packed(const std::string& path, const at::Tensor& tokens,
                                     const edge::MemoryOptions& options,
                                     const std::string& reference) {
  // A slow storage is for speeds alone.
  edge::MemoryOptions unhurried = options;
  unhurried.stream.bytes_per_second = 0;
  RWKV_ASSIGN(auto model, edge::Model::open(path, unhurried));
  const at::Tensor flat = tokens.reshape({-1}).to(at::kInt).contiguous();
  const std::vector<int32_t> ids(flat.data_ptr<int32_t>(), flat.data_ptr<int32_t>() + flat.numel());
  const edge::EvaluatorOptions how{options.n_threads, options.max_chunk};
  auto evaluator = std::make_unique<edge::Evaluator>(model, how);
  std::optional<Reference> along;
  if (!reference.empty()) {
    RWKV_ASSIGN(const auto opened, edge::Model::open(reference));
    along.emplace(opened, how);
  }
  PackedMeasure measure;
  RWKV_TRY(score_all(*evaluator, ids, static_cast<size_t>(tokens.size(1)), along, measure));
  size_t n_decoded = kDecoded;
  if (options.stream.bytes_per_second > 0) {
    n_decoded = kDecodedSlowly;
    evaluator.reset();
    model.reset();
    RWKV_ASSIGN(model, edge::Model::open(path, options));
    evaluator = std::make_unique<edge::Evaluator>(model, how);
  }
  RWKV_TRY(decode(*evaluator, std::span(ids).first(std::min(ids.size(), n_decoded)), measure));
  measure.resident = model->weights().account().total();
  return measure;
}

}  // namespace rwkv::press
