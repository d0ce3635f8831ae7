#include "compressor/numerics/assign.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "compressor/numerics/tensor_ops.h"
#include "compressor/numerics/threads.h"

namespace rwkv::press {
namespace {

constexpr int64_t kRows = 512;      // of a tile: its distances to 200 clusters fill a level 2 cache
constexpr int64_t kCandidates = 8;  // clusters that a row may try before distances are made anew

// |c|^2 - 2 x.c of every row and centroid: squared distances but for |x|^2, which does not matter
// for the comparison of centroids. A tile of rows at a time, never [V, K, D].
at::Tensor scores(const at::Tensor& rows, const at::Tensor& centroids, const at::Tensor& squares) {
  return at::addmm(squares, rows, centroids.t(), 1, -2);
}

float squared_norm(const float* row, int64_t n) {
  return std::inner_product(row, row + n, row, 0.0f);
}

at::Tensor squared_norms(const at::Tensor& matrix) {
  at::Tensor squares = at::empty({matrix.size(0)});
  float* out = squares.data_ptr<float>();
  const float* data = matrix.data_ptr<float>();
  const int64_t cols = matrix.size(1);
  in_tiles(matrix.size(0), kRows, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      out[i] = squared_norm(data + i * cols, cols);
    }
  });
  return squares;
}

// The nearest clusters of pending rows, nearest first: [n, T].
struct Candidates {
  at::Tensor score, cluster;
};

Candidates find_candidates(const at::Tensor& rows, const std::vector<int64_t>& pending,
                           const at::Tensor& centroids, const at::Tensor& squares) {
  const auto n = static_cast<int64_t>(pending.size());
  const int64_t t = std::min(kCandidates, centroids.size(0));
  Candidates found{at::empty({n, t}), at::empty({n, t}, at::kLong)};
  in_tiles(n, kRows, [&](int64_t begin, int64_t end) {
    const at::Tensor index = at::empty({end - begin}, at::kLong);
    std::copy(pending.begin() + begin, pending.begin() + end, index.data_ptr<int64_t>());
    const auto [score, cluster] =
        at::topk(scores(rows.index_select(0, index), centroids, squares), t, 1, false, true);
    found.score.narrow(0, begin, end - begin).copy_(score);
    found.cluster.narrow(0, begin, end - begin).copy_(cluster);
  });
  return found;
}

// Positions in `pending`, those with the most to lose first. With a single open cluster the second
// score is infinite or missing for all, and the order is that of the rows.
std::vector<int64_t> by_regret(const std::vector<int64_t>& pending,
                               const std::vector<double>& weights, const at::Tensor& score) {
  const int64_t t = score.size(1);
  const float* s = score.data_ptr<float>();
  std::vector<double> regret(pending.size(), 0);
  for (size_t i = 0; t > 1 && i < pending.size(); ++i) {
    const float* row = s + static_cast<int64_t>(i) * t;
    regret[i] = weights[static_cast<size_t>(pending[i])] * (row[1] - row[0]);
  }
  std::vector<int64_t> order(pending.size());
  std::iota(order.begin(), order.end(), int64_t{0});
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
    return regret[static_cast<size_t>(a)] > regret[static_cast<size_t>(b)];
  });
  return order;
}

}  // namespace

Assignment assign_nearest(const at::Tensor& rows, const at::Tensor& centroids) {
  const int64_t n = rows.size(0);
  const int64_t cols = rows.size(1);
  Assignment result{std::vector<int64_t>(static_cast<size_t>(n)),
                    std::vector<float>(static_cast<size_t>(n))};
  const at::Tensor squares = squared_norms(centroids);
  in_tiles(n, kRows, [&](int64_t begin, int64_t end) {
    const at::Tensor tile = rows.narrow(0, begin, end - begin);
    const auto [score, cluster] = scores(tile, centroids, squares).min(1);
    const float* x = tile.data_ptr<float>();
    for (int64_t i = begin; i < end; ++i) {
      const float square = squared_norm(x + (i - begin) * cols, cols);
      const float distance = score.data_ptr<float>()[i - begin] + square;
      result.label[static_cast<size_t>(i)] = cluster.data_ptr<int64_t>()[i - begin];
      result.distance[static_cast<size_t>(i)] = std::max(0.0f, distance);
    }
  });
  return result;
}

Assignment assign_balanced(const at::Tensor& rows, const std::vector<double>& weights,
                           const at::Tensor& centroids, int64_t capacity) {
  const auto n = static_cast<size_t>(rows.size(0));
  Assignment result{std::vector<int64_t>(n), std::vector<float>(n)};
  at::Tensor squares = squared_norms(centroids);
  const at::Tensor row_squares = squared_norms(rows);
  std::vector<int64_t> room(static_cast<size_t>(centroids.size(0)), capacity);
  std::vector<int64_t> pending(n);
  std::iota(pending.begin(), pending.end(), int64_t{0});
  while (!pending.empty()) {
    const Candidates found = find_candidates(rows, pending, centroids, squares);
    const int64_t t = found.cluster.size(1);
    std::vector<int64_t> left;
    for (const int64_t i : by_regret(pending, weights, found.score)) {
      const int64_t row = pending[static_cast<size_t>(i)];
      const int64_t* first = found.cluster.data_ptr<int64_t>() + i * t;
      const int64_t* open = std::find_if(first, first + t, [&](int64_t cluster) {
        return room[static_cast<size_t>(cluster)] > 0;
      });
      if (open == first + t) {
        left.push_back(row);
        continue;
      }
      --room[static_cast<size_t>(*open)];
      const float score = found.score.data_ptr<float>()[i * t + (open - first)];
      const float distance = score + row_squares.data_ptr<float>()[row];
      result.label[static_cast<size_t>(row)] = *open;
      result.distance[static_cast<size_t>(row)] = std::max(0.0f, distance);
    }
    // Full clusters are infinitely far for those that are left. One of them at least finds room in
    // every round, since the nearest of the first is open.
    for (size_t c = 0; c < room.size(); ++c) {
      if (room[c] == 0) {
        squares.data_ptr<float>()[c] = std::numeric_limits<float>::infinity();
      }
    }
    std::sort(left.begin(), left.end());
    pending = std::move(left);
  }
  return result;
}

void fill_empty(Assignment& assignment, const std::vector<double>& weights, int64_t n_clusters) {
  std::vector<int64_t> count(static_cast<size_t>(n_clusters), 0);
  for (const int64_t label : assignment.label) {
    ++count[static_cast<size_t>(label)];
  }
  if (std::find(count.begin(), count.end(), 0) == count.end()) {
    return;
  }
  std::vector<size_t> order(assignment.label.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return weights[a] * assignment.distance[a] > weights[b] * assignment.distance[b];
  });
  size_t next = 0;
  for (int64_t cluster = 0; cluster < n_clusters; ++cluster) {
    if (count[static_cast<size_t>(cluster)] > 0) {
      continue;
    }
    while (count[static_cast<size_t>(assignment.label[order[next]])] < 2) {
      ++next;
    }
    --count[static_cast<size_t>(assignment.label[order[next]])];
    ++count[static_cast<size_t>(cluster)];
    assignment.label[order[next]] = cluster;
    assignment.distance[order[next]] = 0;
    ++next;
  }
}

}  // namespace rwkv::press
