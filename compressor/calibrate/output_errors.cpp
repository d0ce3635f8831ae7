#include "compressor/calibrate/output_errors.h"

#include <algorithm>
#include <functional>
#include <limits>

#include "compressor/numerics/tensor_ops.h"
#include "compressor/numerics/threads.h"

namespace rwkv::press {
namespace {

constexpr int64_t kTokens = 256;  // of a tile
constexpr int64_t kHeadTokens = 128;

// What `of_tile(first, count)` returns for the tiles of n tokens, added up in their order.
using Sums = std::vector<double>;
Sums sum_of_tiles(int64_t n, int64_t tile, size_t n_sums,
                  const std::function<Sums(int64_t first, int64_t count)>& of_tile) {
  std::vector<Sums> parts(static_cast<size_t>((n + tile - 1) / tile));
  in_tiles(n, tile, [&](int64_t begin, int64_t end) {
    parts[static_cast<size_t>(begin / tile)] = of_tile(begin, end - begin);
  });
  Sums sums(n_sums, 0.0);
  for (const Sums& part : parts) {
    for (size_t i = 0; i < n_sums; ++i) {
      sums[i] += part[i];
    }
  }
  return sums;
}

// Losses of positions, f64 [n]: half of what `of_tile(first, count)` returns, f64 [count].
at::Tensor of_positions(int64_t n,
                        const std::function<at::Tensor(int64_t first, int64_t count)>& of_tile) {
  const at::Tensor positions = at::empty({n}, at::kDouble);
  in_tiles(n, kTokens, [&](int64_t first, int64_t end) {
    positions.narrow(0, first, end - first).copy_(of_tile(first, end - first).div(2));
  });
  return positions;
}

at::Tensor gradients_of(const at::Tensor& gradients, int64_t first, int64_t count) {
  return gradients.narrow(0, first, count).to(at::kFloat);
}

}  // namespace

double mean_loss(const at::Tensor& positions, Tail tail) {
  constexpr int64_t kRare = 200;
  const int64_t n = positions.size(0);
  std::vector<double> values(positions.data_ptr<double>(), positions.data_ptr<double>() + n);
  double most = std::numeric_limits<double>::infinity();
  if (tail == Tail::Cut) {
    const auto rare = values.end() - 1 - n / kRare;
    std::vector<double> sorted = values;
    const auto at = sorted.begin() + (rare - values.begin());
    std::nth_element(sorted.begin(), at, sorted.end());
    most = *at;
  }
  double sum = 0;
  for (const double value : values) {
    sum += std::min(value, most);
  }
  return sum / static_cast<double>(n);
}

double rounding_distance(const ProductSeen& seen, const at::Tensor& change, Tail tail) {
  const auto of_tile = [&](int64_t first, int64_t count) {
    const at::Tensor d = at::mm(seen.inputs.narrow(0, first, count), change.t());
    return (gradients_of(seen.gradients, first, count) * d).square_().sum(1, false, at::kDouble);
  };
  return mean_loss(of_positions(seen.inputs.size(0), of_tile), tail);
}

double joint_distance(const ProductSeen& seen, const at::Tensor& change, Tail tail) {
  const auto of_tile = [&](int64_t first, int64_t count) {
    const at::Tensor d = at::mm(seen.inputs.narrow(0, first, count), change.t());
    return (gradients_of(seen.gradients, first, count) * d).sum(1, false, at::kDouble).square_();
  };
  return mean_loss(of_positions(seen.inputs.size(0), of_tile), tail);
}

double input_distance(const at::Tensor& gradients, const at::Tensor& change, Tail tail) {
  const auto of_tile = [&](int64_t first, int64_t count) {
    return (gradients_of(gradients, first, count) * change.narrow(0, first, count))
        .square_()
        .sum(1, false, at::kDouble);
  };
  return mean_loss(of_positions(change.size(0), of_tile), tail);
}

// g d = g y - sum over the ranks kept of (g b) (a x).
std::vector<double> pair_distances(const ProductSeen& seen, const at::Tensor& w,
                                   const Factors& whole, const std::vector<int64_t>& ranks,
                                   Tail tail) {
  const int64_t n = seen.inputs.size(0);
  const at::Tensor positions = at::empty({static_cast<int64_t>(ranks.size()), n}, at::kDouble);
  in_tiles(n, kTokens, [&](int64_t first, int64_t end) {
    const at::Tensor x = seen.inputs.narrow(0, first, end - first);
    const at::Tensor g = gradients_of(seen.gradients, first, end - first);
    const at::Tensor dense = (g * at::mm(x, w.t())).sum(1, false, at::kDouble);
    const at::Tensor kept = (at::mm(x, whole.a.t()) * at::mm(g, whole.b)).to(at::kDouble).cumsum(1);
    for (size_t r = 0; r < ranks.size(); ++r) {
      positions.select(0, static_cast<int64_t>(r))
          .narrow(0, first, end - first)
          .copy_((dense - kept.select(1, ranks[r] - 1)).square_().div_(2));
    }
  });
  std::vector<double> distances;
  for (size_t r = 0; r < ranks.size(); ++r) {
    distances.push_back(mean_loss(positions.select(0, static_cast<int64_t>(r)), tail));
  }
  return distances;
}

std::vector<double> head_distances(const at::Tensor& z, const at::Tensor& head,
                                   const std::vector<at::Tensor>& others,
                                   const at::Tensor& other_head) {
  const int64_t n = z.size(0);
  Sums sums = sum_of_tiles(n, kHeadTokens, others.size(), [&](int64_t first, int64_t count) {
    const at::Tensor log_p = at::mm(z.narrow(0, first, count), head.t()).log_softmax(1);
    const at::Tensor p = log_p.exp();
    Sums of_others;
    for (const at::Tensor& other : others) {
      const at::Tensor log_q = at::mm(other.narrow(0, first, count), other_head.t()).log_softmax(1);
      of_others.push_back((p * (log_p - log_q)).sum(at::kDouble).item<double>());
    }
    return of_others;
  });
  for (double& sum : sums) {
    // Rounding can bring what is nothing below nothing.
    sum = std::max(0.0, sum / static_cast<double>(n));
  }
  return sums;
}

HeadSeen HeadSeen::of(const at::Tensor& z, const at::Tensor& head) {
  HeadSeen seen{z, at::empty({z.size(0)}, at::kDouble)};
  in_tiles(z.size(0), kHeadTokens, [&](int64_t begin, int64_t end) {
    const at::Tensor logits = at::mm(z.narrow(0, begin, end - begin), head.t());
    seen.log_sums.narrow(0, begin, end - begin).copy_(logits.to(at::kDouble).logsumexp(1));
  });
  return seen;
}

// With p the shares of the rows and d the changes of their logits, the sum over the vocabulary
// becomes 1 + sum p (e^d - 1) of what it was.
double head_rows_distance(const HeadSeen& seen, const at::Tensor& rows, const at::Tensor& change) {
  const int64_t n = seen.z.size(0);
  const Sums sums = sum_of_tiles(n, kHeadTokens, 1, [&](int64_t first, int64_t count) {
    const at::Tensor z = seen.z.narrow(0, first, count);
    const at::Tensor logits = at::mm(z, rows.t()).to(at::kDouble);
    const at::Tensor p = (logits - seen.log_sums.narrow(0, first, count).unsqueeze(1)).exp_();
    const at::Tensor d = at::mm(z, change.t()).to(at::kDouble);
    const at::Tensor total = (p * d.expm1()).sum(1).log1p();
    return Sums{(total - (p * d).sum(1)).sum().item<double>()};
  });
  // Rounding can bring what is nothing below nothing.
  return std::max(0.0, sums[0] / static_cast<double>(n));
}

double cross_entropy(const at::Tensor& z, const at::Tensor& head, const at::Tensor& next) {
  const int64_t n = z.size(0);
  const Sums sums = sum_of_tiles(n, kHeadTokens, 1, [&](int64_t first, int64_t count) {
    const at::Tensor log_p = at::mm(z.narrow(0, first, count), head.t()).log_softmax(1);
    return Sums{-log_p.gather(1, next.narrow(0, first, count).reshape({-1, 1}))
                     .sum(at::kDouble)
                     .item<double>()};
  });
  return sums[0] / static_cast<double>(n);
}

}  // namespace rwkv::press
