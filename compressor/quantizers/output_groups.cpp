#include "compressor/quantizers/output_groups.h"

#include <algorithm>
#include <cmath>

#include "compressor/numerics/kmeans.h"
#include "compressor/numerics/tensor_ops.h"
#include "compressor/numerics/threads.h"

namespace rwkv::press {
namespace {

// Unless more are asked for. More are better still if there is enough text (docs/quality.md), but
// each has its moments, and their factorisation.
constexpr uint64_t kMostGroups = 128;
constexpr uint64_t kRows = 16;          // of a group, on average
constexpr uint64_t kLeastRows = 2;      // if more groups are asked for
constexpr double kMostShare = 4;        // of a group's rows, in averages
constexpr int64_t kTokensOfTile = 128;  // whose logits a thread holds

// Share of a cost that is the same at every token: few tokens bring most of the cost of a rare
// word, and moments of these alone would be those of too little text. It falls with more text.
constexpr double kEvenShare = 0.2;
constexpr double kTokensOfEvenShare = 64 * 256;

double even_share(int64_t tokens) {
  const double more = static_cast<double>(tokens) / kTokensOfEvenShare;
  return kEvenShare / std::sqrt(std::max(1.0, more));
}

// p (1 - p) of the rows of each group, added up: f32 [groups, n].
at::Tensor costs_of(const at::Tensor& inputs, const at::Tensor& head, const at::Tensor& labels,
                    int64_t n_groups) {
  at::Tensor members = at::zeros({head.size(0), n_groups}, at::kFloat);
  members.scatter_(1, labels.unsqueeze(1), at::ones({head.size(0), 1}, at::kFloat));
  at::Tensor costs = at::empty({n_groups, inputs.size(0)}, at::kFloat);
  in_tiles(inputs.size(0), kTokensOfTile, [&](int64_t begin, int64_t end) {
    const at::Tensor x = inputs.narrow(0, begin, end - begin);
    const at::Tensor p = at::softmax(at::mm(x, head.t()), 1);
    costs.narrow(1, begin, end - begin).copy_(at::mm(p - p.square(), members).t());
  });
  return costs;
}

}  // namespace

int64_t OutputGroups::count_for(uint64_t n_vocab, uint64_t asked) {
  return static_cast<int64_t>(asked == 0 ? std::min(kMostGroups, n_vocab / kRows)
                                         : std::min(asked, n_vocab / kLeastRows));
}

Result<OutputGroups> OutputGroups::of_head(const at::Tensor& inputs, const at::Tensor& head,
                                           uint64_t seed, uint64_t asked) {
  OutputGroups result;
  result.inputs_ = inputs;
  const int64_t n_groups = count_for(static_cast<uint64_t>(head.size(0)), asked);
  const bool is_finite =
      at::isfinite(inputs).all().item<bool>() && at::isfinite(head).all().item<bool>();
  if (n_groups < 2 || !is_finite) {
    result.rows_.push_back(at::arange(head.size(0), at::kLong));
    return result;
  }
  KMeansOptions options;
  options.n_clusters = n_groups;
  options.max_share = kMostShare;
  options.iterations = kIterations;
  options.seed = seed;
  RWKV_ASSIGN(const KMeans found, kmeans(head, at::ones({head.size(0)}, at::kFloat), options));
  const at::Tensor costs = costs_of(inputs, head, found.labels, n_groups);
  const at::Tensor mean = costs.mean(1, true, at::kDouble).clamp_min(1e-30).to(at::kFloat);
  const double even = even_share(inputs.size(0));
  result.costs_ = costs.div(mean).mul_(1 - even).add_(even);
  for (int64_t k = 0; k < n_groups; ++k) {
    result.rows_.push_back(found.labels.eq(k).nonzero().flatten());
  }
  return result;
}

at::Tensor OutputGroups::moments(int64_t group) const {
  const at::Tensor x = costs_.defined() ? inputs_ * costs_[group].sqrt().unsqueeze(1) : inputs_;
  return at::mm(x.t(), x) / static_cast<double>(x.size(0));
}

}  // namespace rwkv::press
