// The cluster head: one small linear map that predicts, from the input of the head, how probable
// each cluster of the vocabulary is, so that a device reads only the rows of likely clusters.
//
// Method: RWKV-Lite (arXiv 2412.10856), hierarchical head: P_c = sum over the tokens t of cluster c
// of softmax(W z)_t, and the map is trained on KL(P || softmax(H z)). The closed form that training
// starts from here and the bias are additions.
#pragma once

#include <functional>

#include "compressor/clusters/head_order.h"

namespace rwkv::press {

struct ClusterHead {
  at::Tensor weight;  ///< [K, D] f32
  at::Tensor bias;    ///< [K] f32
};

/// Head rows of the original token ids [first, first + n): [n, D]. So the whole matrix need not be
/// in memory.
using HeadRowLoader = std::function<Result<at::Tensor>(int64_t first, int64_t n)>;

/// ln P_c of every sample: [n, K] f32, not below ln 1e-37. z is [n, D], the input of the head, and
/// `order` a permutation of n_vocab tokens. Reads the head once, at most `chunk` rows and 64 MB at
/// a time; besides arguments and result it needs some 100 MB. Fails with the loader, on shapes that
/// do not fit (Code::Usage) and on numbers that are not finite (Code::BadInput).
Result<at::Tensor> cluster_log_probabilities(const at::Tensor& z, const HeadRowLoader& loader,
                                             int64_t n_vocab, const HeadOrder& order,
                                             int64_t chunk = 4096);

struct ClusterHeadOptions {
  int64_t epochs = 30;  ///< at most; 0: the closed form alone
  int64_t batch = 256;  ///< samples of a step
  /// Of Adam on standardised inputs, at the start; times 128 / D beyond 128 columns.
  double learning_rate = 3e-3;
  int64_t patience = 4;  ///< epochs without a better held-out KL before it stops
  uint64_t seed = 0;
};

/// KL(P || prediction) is in nats, the mean over the samples that were held out.
struct ClusterHeadReport {
  int64_t n_train = 0;
  int64_t n_held_out = 0;
  double ridge = 0;           ///< of the closed form, chosen on the samples held out
  double kl_uniform = 0;      ///< of a predictor that knows nothing
  double kl_closed_form = 0;  ///< before training
  double kl_fitted = 0;       ///< after training; never above kl_closed_form
  int64_t epochs = 0;         ///< that training took
};

/// Fits the map to z [n, D] and log_targets [n, K] (what cluster_log_probabilities returns). Start:
/// ridge regression from z to ln P, solved in double by Cholesky. Then Adam on mean KL in seeded
/// shuffled minibatches with cosine decay. The last tenth of the samples, which should be whole
/// stretches of text, is held out; the weights that are best there win, the closed form included.
/// The same input, options and seed give the same bytes with any number of threads. `report` may be
/// null. Refuses (Code::Usage) fewer than 64 samples, shapes that do not fit, numbers that are not
/// finite and impossible options.
Result<ClusterHead> fit_cluster_head(const at::Tensor& z, const at::Tensor& log_targets,
                                     const ClusterHeadOptions& options, ClusterHeadReport* report);

/// What a device would read, means over samples.
struct SelectionReport {
  double rows_share = 0;  ///< rows of selected clusters (an always selected one too) / V
  double n_clusters = 0;  ///< selected clusters
  double mass = 0;        ///< true probability (by log_targets) of the selected clusters
};

/// Selects clusters for every sample as the runtime does: by descending softmax(weight z + bias),
/// ties to the lower cluster, the shortest prefix whose probabilities add up to p_min, its length
/// clamped to [k_min, k_max]. With frequent_first, cluster 0 is then added if it is not among them.
/// Shapes as in fit_cluster_head; at least one sample.
SelectionReport measure_selection(const ClusterHead& head, const at::Tensor& z,
                                  const at::Tensor& log_targets, const HeadOrder& order,
                                  double p_min, int64_t k_min, int64_t k_max, bool frequent_first);

/// What a clustered head loses, and what it reads: means over samples.
struct SelectionLoss {
  double kl = 0;          ///< KL(full head || clustered head), nats
  double rows_share = 0;  ///< rows of selected clusters / V
};

/// For each of `p_min`, with clusters selected as above and the other tokens as the runtime gives
/// them: the probability of their cluster, alike for all of its tokens. `rows` [V, D]: the full
/// head, z [n, D] its inputs. The same bits with any number of threads.
std::vector<SelectionLoss> selection_losses(const ClusterHead& head, const at::Tensor& z,
                                            const at::Tensor& rows, const HeadOrder& order,
                                            const std::vector<double>& p_min, int64_t k_min,
                                            int64_t k_max);

}  // namespace rwkv::press
