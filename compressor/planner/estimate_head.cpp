#include "compressor/planner/estimate_head.h"

#include <algorithm>
#include <map>

#include "compressor/calibrate/output_errors.h"
#include "compressor/clusters/cluster_head.h"
#include "compressor/numerics/tensor_ops.h"
#include "compressor/numerics/threads.h"
#include "compressor/planner/learnt_rounding.h"
#include "compressor/predictors/checks.h"
#include "compressor/quantizers/output_groups.h"

namespace rwkv::press {
namespace {

// A head of more elements is large: it is seen on fewer tokens, and only some of its groups of rows
// get codes.
constexpr int64_t kLarge = int64_t{1} << 22;
constexpr int64_t kMostInputs = 8192;
constexpr int64_t kMostGroups = 8;
constexpr int64_t kTile = 128;
// Tokens whose losses are measured: their products with the head are as many as these.
constexpr int64_t kMostElements = int64_t{60} << 30;
constexpr int64_t kLeastTokens = 512;
// Of stage cluster_head, whose plans leave them as they are.
constexpr int64_t kMinClusters = 3;
constexpr int64_t kMaxClusters = 100;

at::Tensor some_inputs(const HeadText& text) {
  return text.rows.numel() <= kLarge ? text.learnt_from : even_rows(text.learnt_from, kMostInputs);
}

at::Tensor some_tokens(const HeadText& text) {
  return even_rows(text.z, std::max(kLeastTokens, kMostElements / text.rows.numel()));
}

// The groups whose tokens have the most probability, with codes of their own: the rows, and their
// moments.
struct SomeRows {
  at::Tensor rows;  // int64
  at::Tensor moments;
};

Result<std::vector<SomeRows>> likely_groups(const PlanSubject& subject, const HeadText& text,
                                            const at::Tensor& z) {
  RWKV_ASSIGN(const OutputGroups groups,
              OutputGroups::of_head(some_inputs(text), text.rows, subject.frame.seed));
  const auto n = text.rows.numel() <= kLarge ? groups.size() : std::min(groups.size(), kMostGroups);
  std::vector<at::Tensor> parts(static_cast<size_t>((z.size(0) + kTile - 1) / kTile));
  in_tiles(z.size(0), kTile, [&](int64_t begin, int64_t end) {
    parts[static_cast<size_t>(begin / kTile)] =
        at::mm(z.narrow(0, begin, end - begin), text.rows.t())
            .softmax(1)
            .sum(0, false, at::kDouble);
  });
  at::Tensor p = at::zeros({text.rows.size(0)}, at::kDouble);
  for (const at::Tensor& part : parts) {
    p.add_(part);
  }
  std::vector<std::pair<double, int64_t>> order;
  for (int64_t g = 0; g < groups.size(); ++g) {
    order.emplace_back(-p.index_select(0, groups.rows(g)).sum().item<double>(), g);
  }
  std::sort(order.begin(), order.end());
  std::vector<SomeRows> found(static_cast<size_t>(n));
  in_tiles(n, 1, [&](int64_t at, int64_t /*end*/) {
    const int64_t group = order[static_cast<size_t>(at)].second;
    found[static_cast<size_t>(at)] = {groups.rows(group), groups.moments(group)};
  });
  return found;
}

}  // namespace

Result<std::vector<double>> estimate_head_rungs(const PlanSubject& subject,
                                                const PlannedMatrix& matrix, const HeadText& text) {
  const at::Tensor z = some_tokens(text);
  const HeadSeen seen = HeadSeen::of(z, text.rows);
  std::vector<SomeRows> groups;
  std::vector<double> losses;
  for (const Codec rung : subject.ladder.rungs_for(matrix.packed_cols())) {
    if (rung == subject.ladder.finest()) {
      continue;
    }
    const double nearest =
        head_distances(z, text.rows, {z}, rounded(text.rows, rung, matrix.layout)).front();
    losses.push_back(nearest);
    if (codec_traits(rung).lut == nullptr) {
      continue;
    }
    if (groups.empty()) {
      RWKV_ASSIGN(groups, likely_groups(subject, text, z));
    }
    std::vector<at::Tensor> rows;
    std::vector<at::Tensor> near;
    std::vector<at::Tensor> learnt;
    for (const SomeRows& group : groups) {
      const at::Tensor w = text.rows.index_select(0, group.rows);
      RWKV_ASSIGN(const at::Tensor values, rounded_for(w, rung, matrix.layout, group.moments));
      rows.push_back(w);
      learnt.push_back(values - w);
      near.push_back(rounded(w, rung, matrix.layout) - w);
    }
    const at::Tensor w = at::cat(rows, 0);
    const double of_nearest = head_rows_distance(seen, w, at::cat(near, 0));
    if (of_nearest > 0) {
      losses.back() *= head_rows_distance(seen, w, at::cat(learnt, 0)) / of_nearest;
    }
    subject.progress("codes of the head",
                     static_cast<double>(losses.size()) /
                         static_cast<double>(subject.ladder.rungs().size() - 1));
  }
  return losses;
}

Result<std::vector<RowsPoint>> estimate_clusters(const PlanSubject& subject, const HeadText& text) {
  ClusterOptions options;
  options.n_clusters = static_cast<int64_t>(subject.frame.clusters);
  options.seed = subject.frame.seed;
  RWKV_ASSIGN(const HeadOrder order,
              cluster_vocabulary(text.rows, subject.calibration.frequencies, options));
  subject.progress("clusters of the head", 0.3);
  const at::Tensor inputs = some_inputs(text);
  const HeadRowLoader load = [&](int64_t first, int64_t n) -> Result<at::Tensor> {
    return text.rows.narrow(0, first, n);
  };
  RWKV_ASSIGN(const at::Tensor targets,
              cluster_log_probabilities(inputs, load, text.rows.size(0), order));
  subject.progress("clusters of the head", 0.7);
  ClusterHeadOptions how;
  how.seed = subject.frame.seed;
  RWKV_ASSIGN(const ClusterHead head, fit_cluster_head(inputs, targets, how, nullptr));
  const std::vector<double> masses(planned_masses().begin(), planned_masses().end());
  const auto found = selection_losses(head, some_tokens(text), text.rows, order, masses,
                                      kMinClusters, kMaxClusters);
  std::vector<RowsPoint> points = {RowsPoint{}};
  for (size_t i = 0; i < masses.size(); ++i) {
    const double loss = at_least_lossy(found[i].kl);
    points.push_back({.value = masses[i],
                      .loss = loss,
                      .nats = loss,
                      .share = found[i].rows_share,
                      .clusters = static_cast<uint64_t>(order.n_clusters())});
  }
  subject.progress("clusters of the head", 1);
  return points;
}

}  // namespace rwkv::press
