// ln P_c of samples: the original head's softmax, added up by cluster.
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "compressor/clusters/cluster_head.h"
#include "compressor/numerics/tensor_ops.h"
#include "compressor/numerics/threads.h"

namespace rwkv::press {
namespace {

constexpr int64_t kSamples = 256;            // of a tile; its logits take 4 MB
constexpr int64_t kChunkNumbers = 16 << 20;  // of head rows in memory: 64 MB
constexpr float kLeast = 1e-37f;             // probabilities below f32's normal range end here

Status check(const at::Tensor& z, int64_t n_vocab, const HeadOrder& order, int64_t chunk) {
  if (z.dim() != 2 || z.size(0) < 1 || z.size(1) < 1) {
    return usage_error("cluster targets: found samples of shape [{}], expected [n, D], n > 0",
                       fmt::join(z.sizes(), ", "));
  }
  if (n_vocab < 1 || order.n_tokens() != n_vocab || chunk < 1) {
    return usage_error(
        "cluster targets: found {} tokens in clusters, a head of {} rows and chunks of {}; "
        "expected "
        "clusters of the whole vocabulary and chunks of at least 1",
        order.n_tokens(), n_vocab, chunk);
  }
  return {};
}

// The running state of a softmax: for each sample the greatest logit so far and, for each cluster,
// the sum of exp(logit - greatest).
struct Sums {
  at::Tensor sum;       // [n, K]; becomes the result
  at::Tensor greatest;  // [n]
};

// Adds the logits [count, n_rows] of samples from `begin` on. `cluster_of` is that of each row.
void add_logits(at::Tensor& logits, int64_t begin, const int64_t* cluster_of, Sums& sums) {
  const int64_t count = logits.size(0);
  const int64_t n_rows = logits.size(1);
  const int64_t n_clusters = sums.sum.size(1);
  const at::Tensor before = sums.greatest.narrow(0, begin, count);
  const at::Tensor greatest = at::maximum(before, std::get<0>(logits.max(1)));
  logits.sub_(greatest.unsqueeze(1)).exp_();
  // exp(-inf) = 0 at the first rows, when there are no sums yet.
  const at::Tensor fade = (before - greatest).exp_();
  before.copy_(greatest);
  std::vector<double> added(static_cast<size_t>(n_clusters));
  for (int64_t i = 0; i < count; ++i) {
    std::fill(added.begin(), added.end(), 0.0);
    const float* row = logits.data_ptr<float>() + i * n_rows;
    for (int64_t t = 0; t < n_rows; ++t) {
      added[static_cast<size_t>(cluster_of[t])] += static_cast<double>(row[t]);
    }
    float* sum = sums.sum.data_ptr<float>() + (begin + i) * n_clusters;
    const auto factor = static_cast<double>(fade.data_ptr<float>()[i]);
    for (int64_t c = 0; c < n_clusters; ++c) {
      sum[c] = static_cast<float>(sum[c] * factor + added[static_cast<size_t>(c)]);
    }
  }
}

void to_log_probabilities(const at::Tensor& sums) {
  const int64_t n_clusters = sums.size(1);
  in_tiles(sums.size(0), kSamples, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      float* row = sums.data_ptr<float>() + i * n_clusters;
      double total = 0;
      for (int64_t c = 0; c < n_clusters; ++c) {
        total += static_cast<double>(row[c]);
      }
      for (int64_t c = 0; c < n_clusters; ++c) {
        const double probability = static_cast<double>(row[c]) / total;
        row[c] = static_cast<float>(std::log(std::max<double>(kLeast, probability)));
      }
    }
  });
}

}  // namespace

Result<at::Tensor> cluster_log_probabilities(const at::Tensor& z_given, const HeadRowLoader& loader,
                                             int64_t n_vocab, const HeadOrder& order,
                                             int64_t chunk) {
  const at::NoGradGuard no_grad;
  RWKV_TRY(check(z_given, n_vocab, order, chunk));
  const at::Tensor z = z_given.to(at::kFloat).contiguous();
  const int64_t n = z.size(0);
  const int64_t cols = z.size(1);
  const int64_t step = std::max<int64_t>(1, std::min(chunk, kChunkNumbers / cols));
  const std::vector<int64_t> cluster_of = order.cluster_of_tokens();
  Sums sums{at::zeros({n, order.n_clusters()}),
            at::full({n}, -std::numeric_limits<float>::infinity())};
  for (int64_t first = 0; first < n_vocab; first += step) {
    const int64_t n_rows = std::min(step, n_vocab - first);
    RWKV_ASSIGN(const at::Tensor loaded, loader(first, n_rows));
    if (loaded.dim() != 2 || loaded.size(0) != n_rows || loaded.size(1) != cols) {
      return usage_error(
          "cluster targets: found head rows of shape [{}], expected [{}, {}]; pass samples and "
          "head "
          "of the same model",
          fmt::join(loaded.sizes(), ", "), n_rows, cols);
    }
    const at::Tensor rows = loaded.to(at::kFloat).contiguous();
    in_tiles(n, kSamples, [&](int64_t begin, int64_t end) {
      at::Tensor logits = at::mm(z.narrow(0, begin, end - begin), rows.t());
      add_logits(logits, begin, cluster_of.data() + first, sums);
    });
  }
  to_log_probabilities(sums.sum);
  if (!at::isfinite(sums.sum).all().item<bool>() ||
      !at::isfinite(sums.greatest).all().item<bool>()) {
    return bad_input(
        "cluster targets: found logits that are not finite; check the samples and the head for "
        "numbers that are not finite");
  }
  return sums.sum;
}

}  // namespace rwkv::press
