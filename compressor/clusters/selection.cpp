// Which clusters a device would read for the samples at hand.
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

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

namespace {

constexpr int64_t kLogitSamples = 128;  // whose logits over the vocabulary are held

// The tokens of each cluster in one sample.
struct ClusterMass {
  std::vector<double> p;        // their probabilities added up
  std::vector<double> p_log_p;  // and p ln p
};

ClusterMass mass_of(const float* log_p, const std::vector<int64_t>& cluster_of, size_t n_clusters) {
  ClusterMass mass{std::vector<double>(n_clusters), std::vector<double>(n_clusters)};
  for (size_t t = 0; t < cluster_of.size(); ++t) {
    const auto log = static_cast<double>(log_p[t]);
    const double p = std::exp(log);
    mass.p[static_cast<size_t>(cluster_of[t])] += p;
    mass.p_log_p[static_cast<size_t>(cluster_of[t])] += p > 0 ? p * log : 0;
  }
  return mass;
}

// Known tokens share the probability P of their clusters in the right proportions, and each other
// token has p_c / n_c.
SelectionLoss loss_of(const ClusterMass& mass, const float* p, const HeadOrder& order,
                      const Rule& rule) {
  constexpr double kLeast = 1e-37;
  const int64_t n_clusters = order.n_clusters();
  std::vector<bool> is_known(static_cast<size_t>(n_clusters));
  SelectionLoss loss;
  double known = 0;
  double predicted = 0;
  for (const int64_t c : select(p, n_clusters, rule)) {
    is_known[static_cast<size_t>(c)] = true;
    known += mass.p[static_cast<size_t>(c)];
    predicted += static_cast<double>(p[c]);
    loss.rows_share += static_cast<double>(order.rows_in(c));
  }
  loss.kl = known > 0 ? known * std::log(known / std::max(kLeast, predicted)) : 0;
  for (int64_t c = 0; c < n_clusters; ++c) {
    if (!is_known[static_cast<size_t>(c)]) {
      const double each =
          std::max(kLeast, static_cast<double>(p[c])) / static_cast<double>(order.rows_in(c));
      loss.kl +=
          mass.p_log_p[static_cast<size_t>(c)] - mass.p[static_cast<size_t>(c)] * std::log(each);
    }
  }
  return loss;
}

}  // namespace

std::vector<SelectionLoss> selection_losses(const ClusterHead& head, const at::Tensor& z,
                                            const at::Tensor& rows, const HeadOrder& order,
                                            const std::vector<double>& p_min, int64_t k_min,
                                            int64_t k_max) {
  const at::NoGradGuard no_grad;
  const int64_t n = z.size(0);
  const int64_t n_clusters = order.n_clusters();
  const std::vector<int64_t> cluster_of = order.cluster_of_tokens();
  std::vector<std::vector<SelectionLoss>> each(static_cast<size_t>(n));
  in_tiles(n, kLogitSamples, [&](int64_t begin, int64_t end) {
    const at::Tensor x = z.narrow(0, begin, end - begin);
    const at::Tensor p = at::softmax(at::addmm(head.bias, x, head.weight.t()), 1);
    const at::Tensor log_p = at::mm(x, rows.t()).log_softmax(1);
    for (int64_t i = begin; i < end; ++i) {
      const ClusterMass mass = mass_of(log_p.data_ptr<float>() + (i - begin) * rows.size(0),
                                       cluster_of, static_cast<size_t>(n_clusters));
      for (const double wanted : p_min) {
        each[static_cast<size_t>(i)].push_back(
            loss_of(mass, p.data_ptr<float>() + (i - begin) * n_clusters, order,
                    {wanted, k_min, k_max, false}));
      }
    }
  });
  std::vector<SelectionLoss> means(p_min.size());
  for (const std::vector<SelectionLoss>& sample : each) {
    for (size_t m = 0; m < means.size(); ++m) {
      means[m].kl += sample[m].kl / static_cast<double>(n);
      means[m].rows_share +=
          sample[m].rows_share / static_cast<double>(n) / static_cast<double>(order.n_tokens());
    }
  }
  return means;
}

}  // namespace rwkv::press
