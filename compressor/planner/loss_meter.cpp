#include "compressor/planner/loss_meter.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "compressor/model/ends.h"
#include "compressor/model/named_tensors.h"
#include "compressor/numerics/tensor_ops.h"
#include "compressor/numerics/threads.h"
#include "compressor/stages/block_walk.h"

namespace rwkv::press {
namespace {

constexpr int64_t kHeadTokens = 256;  // whose logits are held at a time, several times over
constexpr int64_t kKeptNumbers = int64_t{1} << 26;  // of the dense model's predictions
constexpr int64_t kDiagonalRounds = 8;
constexpr uint64_t kSeed = 0;  // the planned recipe's own

}  // namespace

Result<std::unique_ptr<LossMeter>> LossMeter::create(
    const TensorSource& source, const ModelConfig& config, std::vector<PlannedMatrix> matrices,
    const at::Tensor& calibration, const at::Tensor& held_out, const LearntCodes& learnt) {
  const at::NoGradGuard no_grad;
  std::unique_ptr<LossMeter> meter(new LossMeter);
  meter->config_ = config;
  meter->source_ = &source;
  meter->matrices_ = std::move(matrices);
  meter->tokens_ = held_out;
  for (uint64_t i = 0; i < config.n_layer; ++i) {
    RWKV_ASSIGN(auto block, Block::load(source, config, static_cast<int64_t>(i)));
    meter->blocks_.push_back(std::move(block));
  }
  for (size_t i = 0; i < meter->matrices_.size(); ++i) {
    const PlannedMatrix& matrix = meter->matrices_[i];
    at::Tensor dense;
    if (matrix.role == Role::Head) {
      RWKV_ASSIGN(dense, load_named(source, matrix.name));
    } else if (matrix.role != Role::Embedding) {
      dense = meter->linear_of(i).dense;
    }
    meter->dense_.push_back(dense);
  }
  RWKV_ASSIGN(meter->x0_, embed(source, config, held_out));
  RWKV_ASSIGN(meter->ln_out_, load_layer_norm(NamedTensors(source), "ln_out"));
  at::Tensor x = meter->x0_;
  at::Tensor v_first;
  for (const auto& block : meter->blocks_) {
    x = block->forward(x, v_first, {});
  }
  meter->dense_z_ = meter->predicting(x);
  if (meter->dense_z_.size(0) * meter->dense_head().size(0) <= kKeptNumbers) {
    meter->log_p_ = meter->dense_log_p(0, meter->dense_z_.size(0));
  }
  RWKV_TRY(meter->observe(calibration, learnt));
  meter->set_method({});
  return meter;
}

// Moments are kept for pairs alone; codes are learnt while the moments are there.
Status LossMeter::observe(const at::Tensor& calibration, const LearntCodes& learnt) {
  moments_.resize(matrices_.size());
  learnt_ = std::make_unique<LearntRounding>(learnt.codecs);
  const auto is_seen = [&](const PlannedMatrix& matrix, int64_t block) {
    return matrix.block == block && (matrix.may_pair || learnt_->learns());
  };
  Calibration text;
  text.tokens = calibration;
  const BlockWalk walk{.source = *source_,
                       .config = config_,
                       .calibration = &text,
                       .products =
                           [&](int64_t block) {
                             std::vector<std::string> products;
                             for (const PlannedMatrix& matrix : matrices_) {
                               if (is_seen(matrix, block)) {
                                 products.push_back(matrix.product);
                               }
                             }
                             return products;
                           },
                       .loaded = blocks_,
                       .progress = learnt.progress};
  const auto visit = [&](BlockVisit& here) -> Status {
    for (size_t i = 0; i < matrices_.size(); ++i) {
      if (!is_seen(matrices_[i], here.index)) {
        continue;
      }
      const at::Tensor& moments = here.moments[matrices_[i].product];
      if (matrices_[i].may_pair) {
        moments_[i] = with_floor(moments);
      }
      const ThreadCount threads(learnt.n_threads);
      RWKV_TRY(learnt_->learn(i, matrices_[i], dense_[i], moments));
    }
    return {};
  };
  RWKV_ASSIGN(const at::Tensor hidden, walk.run(visit));
  if (learnt_->learns()) {
    MomentSum seen_by_head;
    const at::Tensor z = ln_out_.apply(hidden);
    seen_by_head.add(z);
    const size_t head = head_index();
    const ThreadCount threads(learnt.n_threads);
    RWKV_ASSIGN(const OutputGroups groups, OutputGroups::of_head(z, dense_[head], kSeed));
    RWKV_TRY(learnt_->learn(head, matrices_[head], dense_[head], seen_by_head.mean(), &groups));
  }
  return {};
}

void LossMeter::set_method(const PairMethod& method) {
  method_ = method;
  whole_.assign(matrices_.size(), Factors{});
  pairs_.clear();
}

Linear& LossMeter::linear_of(size_t matrix) {
  const PlannedMatrix& planned = matrices_[matrix];
  return blocks_[static_cast<size_t>(planned.block)]->linears.at(planned.product);
}

// One decomposition serves all ranks: the leading part of the full pair is the pair of that rank.
Factors LossMeter::pair(size_t matrix, double factor) {
  const PlannedMatrix& planned = matrices_[matrix];
  const int64_t rank = rank_of(factor, planned.rows, planned.cols);
  const at::Tensor h = method_.whitened ? moments_[matrix] : at::Tensor();
  if (method_.diagonal) {
    Factors& kept = pairs_[{matrix, factor}];
    if (!kept.a.defined()) {
      kept = factorise_with_diagonal(dense_[matrix], h, rank, kDiagonalRounds, kSeed);
    }
    return kept;
  }
  Factors& whole = whole_[matrix];
  if (!whole.a.defined()) {
    const auto full = static_cast<int64_t>(std::min(planned.rows, planned.cols));
    whole = factorise(dense_[matrix], h, full, kSeed);
  }
  return {whole.a.narrow(0, 0, rank), whole.b.narrow(1, 0, rank), {}};
}

at::Tensor LossMeter::numbers(size_t matrix, const MatrixSetting& setting) {
  if (setting.factor == 0) {
    return learnt_->dense(matrix, matrices_[matrix], dense_[matrix], setting.codec);
  }
  const bool learns = learnt_->has(setting.codec);
  return rounded_pair(pair(matrix, setting.factor), setting.codec,
                      learns ? moments_[matrix] : at::Tensor())
      .product();
}

// Rows that are rounded are packed with ln0 applied, which is what x0_ has.
at::Tensor LossMeter::embedded(const MatrixSetting& setting) const {
  return rounded(x0_, setting.codec, Layout::AsIs);
}

size_t LossMeter::head_index() const {
  size_t i = 0;
  while (matrices_[i].role != Role::Head) {
    ++i;
  }
  return i;
}

const at::Tensor& LossMeter::dense_head() const {
  return dense_[head_index()];
}

// What the head sees of the positions whose next token is known, [positions, n_embd].
at::Tensor LossMeter::predicting(const at::Tensor& x) const {
  return ln_out_.apply(x.narrow(1, 0, tokens_.size(1) - 1).reshape({-1, x.size(-1)}));
}

at::Tensor LossMeter::dense_log_p(int64_t at, int64_t n) const {
  return at::mm(dense_z_.narrow(0, at, n), dense_head().t()).log_softmax(1);
}

TextLoss LossMeter::head_loss(const at::Tensor& x, const at::Tensor& head) const {
  const at::Tensor z = predicting(x);
  const at::Tensor next = tokens_.narrow(1, 1, tokens_.size(1) - 1).reshape({-1, 1});
  TextLoss loss;
  for (int64_t at = 0; at < z.size(0); at += kHeadTokens) {
    const int64_t n = std::min(kHeadTokens, z.size(0) - at);
    const at::Tensor log_q = at::mm(z.narrow(0, at, n), head.t()).log_softmax(1);
    const at::Tensor log_p = log_p_.defined() ? log_p_.narrow(0, at, n) : dense_log_p(at, n);
    loss.nats -= log_q.gather(1, next.narrow(0, at, n)).sum(at::kDouble).item<double>();
    loss.kl += (log_p.exp() * (log_p - log_q)).sum(at::kDouble).item<double>();
  }
  loss.nats /= static_cast<double>(z.size(0));
  // Rounding can bring what is nothing below nothing.
  loss.kl = std::max(0.0, loss.kl / static_cast<double>(z.size(0)));
  return loss;
}

TextLoss LossMeter::run_from(int64_t block, at::Tensor x, at::Tensor v_first,
                             const at::Tensor& head, bool keep) {
  for (size_t b = static_cast<size_t>(block); b < blocks_.size(); ++b) {
    if (keep) {
      inputs_[b] = x;
    }
    x = blocks_[b]->forward(x, v_first, {});
    if (keep && b == 0) {
      v_first_ = v_first;
    }
  }
  if (keep) {
    inputs_[blocks_.size()] = x;
  }
  return head_loss(x, head);
}

TextLoss LossMeter::loss(const std::vector<MatrixSetting>& settings) {
  const at::NoGradGuard no_grad;
  settings_ = settings;
  inputs_.resize(blocks_.size() + 1);
  at::Tensor x = x0_;
  for (size_t i = 0; i < matrices_.size(); ++i) {
    if (matrices_[i].role == Role::Embedding) {
      x = embedded(settings[i]);
    } else if (matrices_[i].role == Role::Head) {
      head_ = numbers(i, settings[i]);
    } else {
      linear_of(i).dense = numbers(i, settings[i]);
    }
  }
  return run_from(0, x, {}, head_, /*keep=*/true);
}

TextLoss LossMeter::loss_with(size_t matrix, const MatrixSetting& setting) {
  const at::NoGradGuard no_grad;
  const PlannedMatrix& planned = matrices_[matrix];
  if (planned.role == Role::Embedding) {
    return run_from(0, embedded(setting), {}, head_, false);
  }
  if (planned.role == Role::Head) {
    return head_loss(inputs_.back(), numbers(matrix, setting));
  }
  Linear& linear = linear_of(matrix);
  const at::Tensor before = linear.dense;
  linear.dense = numbers(matrix, setting);
  const at::Tensor v_first = planned.block == 0 ? at::Tensor() : v_first_;
  const TextLoss loss =
      run_from(planned.block, inputs_[static_cast<size_t>(planned.block)], v_first, head_, false);
  linear.dense = before;
  return loss;
}

Result<TextLoss> LossMeter::loss_of(const TensorSource& changed) const {
  const at::NoGradGuard no_grad;
  RWKV_ASSIGN(at::Tensor x, embed(changed, config_, tokens_));
  at::Tensor v_first;
  for (uint64_t i = 0; i < config_.n_layer; ++i) {
    RWKV_ASSIGN(const auto block, Block::load(changed, config_, static_cast<int64_t>(i)));
    x = block->forward(x, v_first, {});
  }
  RWKV_ASSIGN(const at::Tensor head, load_named(changed, "head.weight"));
  return head_loss(x, head);
}

}  // namespace rwkv::press
