#include "compressor/stages/prediction_distance.h"

#include <vector>

#include "compressor/numerics/tensor_ops.h"
#include "compressor/numerics/threads.h"

namespace rwkv::press {
namespace {

constexpr int64_t kTokens = 64;  // of a tile: their logits over 65,536 words are 17 MB

at::Tensor log_probabilities(const at::Tensor& z, const at::Tensor& head) {
  return at::log_softmax(at::mm(z, head.t()), 1);
}

}  // namespace

double prediction_distance(const at::Tensor& dense_z, const at::Tensor& dense_head,
                           const at::Tensor& changed_z, const at::Tensor& changed_head) {
  const int64_t n = dense_z.size(0);
  std::vector<double> sums(static_cast<size_t>((n + kTokens - 1) / kTokens));
  in_tiles(n, kTokens, [&](int64_t begin, int64_t end) {
    const at::Tensor p = log_probabilities(dense_z.narrow(0, begin, end - begin), dense_head);
    const at::Tensor q = log_probabilities(changed_z.narrow(0, begin, end - begin), changed_head);
    sums[static_cast<size_t>(begin / kTokens)] =
        ((p - q).mul_(p.exp())).sum(at::kDouble).item<double>();
  });
  double sum = 0;
  for (const double each : sums) {
    sum += each;
  }
  return sum / static_cast<double>(n);
}

}  // namespace rwkv::press
