#include "compressor/evaluate/planned_account.h"

#include <chrono>
#include <cmath>
#include <vector>

#include "runtime/model/evaluator.h"
#include "runtime/text/scoring.h"

namespace rwkv::press {
namespace {

// Decoded one by one to see what a token touches and how long it takes.
constexpr size_t kDecoded = 256;

Result<edge::Score> score_all(edge::Evaluator& evaluator, const std::vector<int32_t>& ids,
                              size_t length) {
  edge::Score sum;
  for (size_t at = 0; at + length <= ids.size(); at += length) {
    RWKV_ASSIGN(const edge::Score score, edge::score_tokens(
                                             evaluator, std::span(ids).subspan(at, length),
                                             [](int32_t) { return 1; }, [](uint64_t) {}));
    sum.n_tokens += score.n_tokens;
    sum.nats += score.nats;
    sum.squared_nats += score.squared_nats;
  }
  return sum;
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
                                     const edge::MemoryOptions& options) {
  RWKV_ASSIGN(const auto model, edge::Model::open(path, options));
  const at::Tensor flat = tokens.reshape({-1}).to(at::kInt).contiguous();
  const std::vector<int32_t> ids(flat.data_ptr<int32_t>(), flat.data_ptr<int32_t>() + flat.numel());
  edge::Evaluator evaluator(model, {options.n_threads, options.max_chunk});
  RWKV_ASSIGN(const edge::Score score,
              score_all(evaluator, ids, static_cast<size_t>(tokens.size(1))));
  PackedMeasure measure;
  measure.nats_per_token = score.nats_per_token();
  measure.standard_error = score.standard_error();
  RWKV_TRY(decode(model, ids, evaluator, measure));
  measure.resident = model->weights().account().total();
  return measure;
}

}  // namespace rwkv::press
