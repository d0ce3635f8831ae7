#include "compressor/evaluate/planned_account.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <vector>

#include "compressor/evaluate/agreement.h"
#include "runtime/model/evaluator.h"
#include "runtime/text/scoring.h"

namespace rwkv::press {
namespace {

// Decoded one by one to see what a token touches and how long it takes.
constexpr size_t kDecoded = 256;

// The reference reads what the model reads, a few tokens behind.
class Follower {
 public:
  Follower(const std::shared_ptr<const edge::Model>& model, const edge::EvaluatorOptions& options)
      : evaluator_(model, options), state_(model->empty_state()) {}

  void start() { state_.reset(); }
  Result<std::span<const float>> logits(std::span<const int32_t> tokens) {
    logits_.resize(tokens.size() * evaluator_.model().config().n_vocab);
    RWKV_TRY(evaluator_.forward(tokens, state_, edge::Logits::All, logits_));
    return std::span<const float>(logits_);
  }

 private:
  edge::Evaluator evaluator_;
  edge::State state_;
  std::vector<float> logits_;
};

Status score_all(edge::Evaluator& evaluator, const std::vector<int32_t>& ids, size_t length,
                 std::optional<Follower>& reference, PackedMeasure& measure) {
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
      std::span<const float> wanted;
      if (reference) {
        RWKV_ASSIGN(wanted, reference->logits(tokens.subspan(first, next.size())));
      }
      for (size_t t = 0; t < next.size(); ++t) {
        const auto row = logits.subspan(t * n_vocab, n_vocab);
        const double nats = edge::negative_log_likelihood(row, next[t]);
        ++sum.n_tokens;
        sum.nats += nats;
        sum.squared_nats += nats * nats;
        kl += reference ? compare_logits(wanted.subspan(t * n_vocab, n_vocab), row).kl : 0;
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

Status decode(const std::shared_ptr<const edge::Model>& model, const std::vector<int32_t>& ids,
              edge::Evaluator& evaluator, PackedMeasure& measure) {
  edge::State state = model->empty_state();
  std::vector<float> logits(model->config().n_vocab);
  const size_t n = std::min(ids.size(), kDecoded);
  const uint64_t before = evaluator.touched_bytes();
  const auto start = std::chrono::steady_clock::now();
  for (size_t i = 0; i < n; ++i) {
    RWKV_TRY(evaluator.forward({&ids[i], 1}, state, edge::Logits::Last, logits));
  }
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  measure.touched_per_token =
      static_cast<double>(model->weights().always_touched_bytes()) +
      static_cast<double>(evaluator.touched_bytes() - before) / static_cast<double>(n);
  measure.tokens_per_second = static_cast<double>(n) / seconds.count();
  return {};
}

}  // namespace

Result<uint64_t> tokenizer_bytes(const std::optional<Vocabulary>& vocabulary) {
  if (!vocabulary) {
    return uint64_t{0};
  }
  RWKV_ASSIGN(const std::unique_ptr<Tokenizer> tokenizer, make_tokenizer(*vocabulary));
  return uint64_t{tokenizer->memory_bytes()};
}

Result<edge::Account> planned_account(const PackPlan& plan, uint64_t tokenizer_bytes,
                                      const edge::MemoryOptions& options) {
  edge::PackedFile file;
  file.path = "plan";
  file.config = plan.config;
  for (const PlannedTensor& tensor : plan.tensors) {
    PackedTensor packed;
    packed.name = tensor.binding.name;
    packed.codec = tensor.codec;
    packed.rows = tensor.binding.packed_rows();
    packed.cols = tensor.binding.packed_cols();
    packed.n_bytes = tensor.encoded_bytes();
    file.bindings.push_back(tensor.binding);
    file.bindings.back().source = file.tensors.size();
    file.tensors.push_back(std::move(packed));
  }
  RWKV_ASSIGN(const edge::MemoryPlan memory, edge::Model::plan(file, tokenizer_bytes, options));
  return memory.account;
}

Result<PackedMeasure> measure_packed(const std::string& path, const at::Tensor& tokens,
                                     const edge::MemoryOptions& options,
                                     const std::string& reference) {
  RWKV_ASSIGN(const auto model, edge::Model::open(path, options));
  const at::Tensor flat = tokens.reshape({-1}).to(at::kInt).contiguous();
  const std::vector<int32_t> ids(flat.data_ptr<int32_t>(), flat.data_ptr<int32_t>() + flat.numel());
  const edge::EvaluatorOptions how{options.n_threads, options.max_chunk};
  edge::Evaluator evaluator(model, how);
  std::optional<Follower> follower;
  if (!reference.empty()) {
    RWKV_ASSIGN(const auto wanted, edge::Model::open(reference));
    follower.emplace(wanted, how);
  }
  PackedMeasure measure;
  RWKV_TRY(score_all(evaluator, ids, static_cast<size_t>(tokens.size(1)), follower, measure));
  RWKV_TRY(decode(model, ids, evaluator, measure));
  measure.resident = model->weights().account().total();
  return measure;
}

}  // namespace rwkv::press
