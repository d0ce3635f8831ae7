#include "compressor/stages/candidate_meter.h"

#include <optional>

#include "compressor/model/ends.h"
#include "compressor/numerics/tensor_ops.h"
#include "compressor/stages/block_walk.h"
#include "compressor/stages/matrix_codes.h"
#include "compressor/stages/prediction_distance.h"

namespace rwkv::press {
namespace {

constexpr const char* kHead = "head.weight";

// A model with one matrix replaced, on its way through the blocks.
struct Variant {
  Walk walk;
  double* kl;
};

class CandidateMeter {
 public:
  CandidateMeter(const Work& work, Selector selector, std::vector<MeasuredMatrix>& matrices)
      : work_(work), selector_(selector), matrices_(matrices), config_(work.plan.config) {
    config_.ln0_folded = false;  // as the source gives it
  }
  Status run();

 private:
  bool measures() const { return selector_ == Selector::OutputError || selector_ == Selector::Kl; }
  std::vector<MeasuredMatrix*> matrices_of(int64_t block);
  Status look_at_weights(MeasuredMatrix& matrix);
  Status split_text();
  Status observe_dense();
  Status visit(BlockVisit& here);
  Status finish(std::vector<Variant> variants, int64_t block);
  Status measure_head(const at::Tensor& hidden);
  Result<at::Tensor> try_candidate(const MeasuredMatrix& matrix, const Candidate& candidate,
                                   const at::Tensor& moments, double& error) const;

  const Work& work_;
  Selector selector_;
  std::vector<MeasuredMatrix>& matrices_;
  ModelConfig config_;
  Calibration learns_from_;
  at::Tensor held_out_;
  std::optional<Walk> dense_;  // the held-out samples, before the current block
  at::Tensor dense_z_;
  at::Tensor head_;
};

std::vector<MeasuredMatrix*> CandidateMeter::matrices_of(int64_t block) {
  std::vector<MeasuredMatrix*> own;
  for (MeasuredMatrix& matrix : matrices_) {
    if (matrix.tensor.binding.block == block) {
      own.push_back(&matrix);
    }
  }
  return own;
}

PlannedTensor with_codec(const PlannedTensor& tensor, Codec codec) {
  PlannedTensor other = tensor;
  other.codec = codec;
  return other;
}

Status CandidateMeter::look_at_weights(MeasuredMatrix& matrix) {
  const std::string& name = matrix.tensor.binding.name;
  RWKV_ASSIGN(const at::Tensor values, load_named(*work_.source, name));
  const auto input_for = [&](const Candidate& candidate) {
    return quantizer_input(*work_.source, with_codec(matrix.tensor, candidate.codec), config_,
                           values, {}, work_.seed);
  };
  RWKV_ASSIGN(const QuantizerInput scalar, input_for(matrix.scalar));
  RWKV_ASSIGN(const QuantizerInput codebook, input_for(matrix.codebook));
  const std::span<const float> weights(scalar.weights.data_ptr<float>(),
                                       static_cast<size_t>(scalar.weights.numel()));
  constexpr float kMost = 1e18f;
  const MatrixShape shape{static_cast<uint64_t>(scalar.weights.size(0)),
                          static_cast<uint64_t>(scalar.weights.size(1))};
  RWKV_TRY(check_finite(weights, shape, kMost, codec_traits(scalar.codec).name)
               .in("tensor '" + name + "'"));
  matrix.costs.proxies = proxies_of(weights);
  matrix.costs.scalar.bytes = matrix.scalar.quantizer->bytes(scalar);
  matrix.costs.codebook.bytes = matrix.codebook.quantizer->bytes(codebook);
  return {};
}

// The values of one candidate, and its share of the output energy lost.
Result<at::Tensor> CandidateMeter::try_candidate(const MeasuredMatrix& matrix,
                                                 const Candidate& candidate,
                                                 const at::Tensor& moments, double& error) const {
  const std::string& name = matrix.tensor.binding.name;
  RWKV_ASSIGN(const at::Tensor values, load_named(*work_.source, name));
  RWKV_ASSIGN(const QuantizerInput input,
              quantizer_input(*work_.source, with_codec(matrix.tensor, candidate.codec), config_,
                              values, moments, work_.seed));
  auto quantized = candidate.quantizer->quantize(input);
  RWKV_TRY(quantized.status().in("tensor '" + name + "'"));
  error = quantized.value().error;
  return chosen_values(input, quantized.value());
}

// For Kl, the last quarter of the samples is not learnt from.
Status CandidateMeter::split_text() {
  learns_from_ = *work_.calibration;
  if (selector_ != Selector::Kl) {
    return {};
  }
  const int64_t n = learns_from_.tokens.size(0);
  const int64_t n_held_out = n / 4;
  if (n_held_out == 0) {
    return usage_error(
        "quantize.selector kl holds out a quarter of the samples: expected at least 4, found {}; "
        "raise calibration.samples",
        n);
  }
  held_out_ = learns_from_.tokens.narrow(0, n - n_held_out, n_held_out);
  learns_from_.tokens = learns_from_.tokens.narrow(0, 0, n - n_held_out);
  return observe_dense();
}

Status CandidateMeter::observe_dense() {
  RWKV_ASSIGN(head_, load_named(*work_.source, kHead));
  RWKV_ASSIGN(Walk walk, Walk::begin(*work_.source, config_, held_out_));
  dense_ = walk;
  for (int64_t i = 0; i < static_cast<int64_t>(config_.n_layer); ++i) {
    RWKV_ASSIGN(const std::unique_ptr<Block> block, Block::load(*work_.source, config_, i));
    walk.advance(*block, {});
  }
  RWKV_ASSIGN(dense_z_, head_input(*work_.source, walk.hidden()));
  return {};
}

Status CandidateMeter::visit(BlockVisit& here) {
  std::vector<Variant> variants;
  for (MeasuredMatrix* matrix : matrices_of(here.index)) {
    at::Tensor* const member = member_of(here.block, matrix->tensor.binding);
    const at::Tensor moments = here.moments.at(product_of(matrix->tensor.binding));
    const at::Tensor own = *member;
    const auto measure = [&](const Candidate& candidate, double& error, double& kl) -> Status {
      RWKV_ASSIGN(const at::Tensor values, try_candidate(*matrix, candidate, moments, error));
      if (selector_ == Selector::Kl) {
        *member = values;
        variants.push_back({*dense_, &kl});
        variants.back().walk.advance(here.block, {});
      }
      return {};
    };
    RWKV_TRY(measure(matrix->scalar, matrix->scalar_error, matrix->scalar_kl));
    RWKV_TRY(measure(matrix->codebook, matrix->codebook_error, matrix->codebook_kl));
    *member = own;
  }
  if (dense_) {
    dense_->advance(here.block, {});
  }
  return finish(std::move(variants), here.index);
}

// The rest of the way, for all variants together.
Status CandidateMeter::finish(std::vector<Variant> variants, int64_t block) {
  if (variants.empty()) {
    return {};
  }
  for (int64_t i = block + 1; i < static_cast<int64_t>(config_.n_layer); ++i) {
    RWKV_ASSIGN(const std::unique_ptr<Block> later, Block::load(*work_.source, config_, i));
    for (Variant& variant : variants) {
      variant.walk.advance(*later, {});
    }
  }
  for (const Variant& variant : variants) {
    RWKV_ASSIGN(const at::Tensor z, head_input(*work_.source, variant.walk.hidden()));
    *variant.kl = prediction_distance(dense_z_, head_, z, head_);
  }
  return {};
}

Status CandidateMeter::measure_head(const at::Tensor& hidden) {
  for (MeasuredMatrix* matrix : matrices_of(-1)) {
    RWKV_ASSIGN(const at::Tensor z, head_input(*work_.source, hidden));
    MomentSum sum;
    sum.add(z);
    const at::Tensor moments = sum.mean();
    const auto measure = [&](const Candidate& candidate, double& error, double& kl) -> Status {
      RWKV_ASSIGN(const at::Tensor values, try_candidate(*matrix, candidate, moments, error));
      if (selector_ == Selector::Kl) {
        kl = prediction_distance(dense_z_, head_, dense_z_, values);
      }
      return {};
    };
    RWKV_TRY(measure(matrix->scalar, matrix->scalar_error, matrix->scalar_kl));
    RWKV_TRY(measure(matrix->codebook, matrix->codebook_error, matrix->codebook_kl));
  }
  return {};
}

Status CandidateMeter::run() {
  for (MeasuredMatrix& matrix : matrices_) {
    RWKV_TRY(look_at_weights(matrix));
  }
  if (!measures()) {
    return {};
  }
  RWKV_TRY(split_text());
  const BlockWalk walk{.source = *work_.source,
                       .config = config_,
                       .calibration = &learns_from_,
                       .activations = Activations::AfterChanges,
                       .products =
                           [&](int64_t block) {
                             std::vector<std::string> products;
                             for (const MeasuredMatrix* matrix : matrices_of(block)) {
                               products.push_back(product_of(matrix->tensor.binding));
                             }
                             return products;
                           },
                       .progress = [&](double share) { work_.progress("candidates", share); }};
  RWKV_ASSIGN(const at::Tensor hidden, walk.run([&](BlockVisit& here) { return visit(here); }));
  RWKV_TRY(measure_head(hidden));
  for (MeasuredMatrix& matrix : matrices_) {
    const bool by_kl = selector_ == Selector::Kl;
    matrix.costs.scalar.loss = by_kl ? matrix.scalar_kl : matrix.scalar_error;
    matrix.costs.codebook.loss = by_kl ? matrix.codebook_kl : matrix.codebook_error;
  }
  return {};
}

}  // namespace

Status measure_candidates(const Work& work, Selector selector,
                          std::vector<MeasuredMatrix>& matrices) {
  return CandidateMeter(work, selector, matrices).run();
}

}  // namespace rwkv::press
