// Which clusters a device would read for the samples at hand.
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "compressor/clusters/cluster_head.h"
#include "compressor/numerics/tensor_ops.h"
#include "compressor/numerics/threads.h"

namespace rwkv::press {
namespace {

constexpr int64_t kSamples = 256;

struct Rule {
  double p_min;
  int64_t k_min, k_max;
  bool frequent_first;
};

// The clusters of one sample, most probable first. `p` are the predicted probabilities.
std::vector<int64_t> select(const float* p, int64_t n_clusters, const Rule& rule) {
  std::vector<int64_t> clusters(static_cast<size_t>(n_clusters));
  std::iota(clusters.begin(), clusters.end(), int64_t{0});
  std::stable_sort(clusters.begin(), clusters.end(),
                   [&](int64_t a, int64_t b) { return p[a] > p[b]; });
  int64_t count = 0;
  for (double total = 0; count < n_clusters && total < rule.p_min; ++count) {
    total += static_cast<double>(p[clusters[static_cast<size_t>(count)]]);
  }
  count = std::min(n_clusters, std::clamp(count, rule.k_min, std::max(rule.k_min, rule.k_max)));
  const auto end = clusters.begin() + count;
  const bool add = rule.frequent_first && std::find(clusters.begin(), end, 0) == end;
  clusters.resize(static_cast<size_t>(count));
  if (add) {
    clusters.push_back(0);
  }
  return clusters;
}

}  // namespace

SelectionReport measure_selection(const ClusterHead& head, const at::Tensor& z_given,
                                  const at::Tensor& log_targets, const HeadOrder& order,
                                  double p_min, int64_t k_min, int64_t k_max, bool frequent_first) {
  const at::NoGradGuard no_grad;
  const at::Tensor z = z_given.to(at::kFloat).contiguous();
  const at::Tensor targets = log_targets.to(at::kFloat).contiguous();
  const int64_t n = z.size(0);
  const int64_t n_clusters = order.n_clusters();
  const Rule rule{p_min, k_min, k_max, frequent_first};
  std::vector<SelectionReport> each(static_cast<size_t>(n));
  in_tiles(n, kSamples, [&](int64_t begin, int64_t end) {
    const at::Tensor logits =
        at::addmm(head.bias, z.narrow(0, begin, end - begin), head.weight.t());
    const at::Tensor p = at::softmax(logits, 1);
    for (int64_t i = begin; i < end; ++i) {
      SelectionReport& sample = each[static_cast<size_t>(i)];
      const float* target = targets.data_ptr<float>() + i * n_clusters;
      for (const int64_t c :
           select(p.data_ptr<float>() + (i - begin) * n_clusters, n_clusters, rule)) {
        sample.rows_share += static_cast<double>(order.rows_in(c));
        sample.n_clusters += 1;
        sample.mass += std::exp(static_cast<double>(target[c]));
      }
    }
  });
  SelectionReport mean;
  for (const SelectionReport& sample : each) {
    mean.rows_share += sample.rows_share;
    mean.n_clusters += sample.n_clusters;
    mean.mass += sample.mass;
  }
  mean.rows_share /= static_cast<double>(n) * static_cast<double>(order.n_tokens());
  mean.n_clusters /= static_cast<double>(n);
  mean.mass /= static_cast<double>(n);
  return mean;
}

}  // namespace rwkv::press
