#include "compressor/evaluate/packed_errors.h"

#include <algorithm>

#include "compressor/checkpoint/tensor.h"
#include "compressor/model/named_tensors.h"
#include "compressor/numerics/tensor_ops.h"

namespace rwkv::press {
namespace {

constexpr const char* kWeight = ".weight";
// Rows compared at a time, as f32.
constexpr uint64_t kSliceElements = uint64_t{16} << 20;

struct Sums {
  double squares = 0;
  double lost = 0;

  void add(const at::Tensor& original, const at::Tensor& packed) {
    squares += original.square().sum(at::kDouble).item<double>();
    lost += (original - packed).square_().sum(at::kDouble).item<double>();
  }
  double error() const { return squares > 0 ? lost / squares : 0; }
};

class Comparison {
 public:
  Comparison(const TensorSource& packed, const PackPlan& plan, const TensorSource& original)
      : packed_(packed), plan_(plan), original_(original) {}

  Result<std::vector<PackedError>> run() {
    std::vector<PackedError> errors;
    for (const PlannedTensor& tensor : plan_.tensors) {
      const std::string& name = tensor.binding.name;
      if (tensor.binding.part == Part::FactorA && !find_tensor(original_, name)) {
        RWKV_ASSIGN(const std::optional<PackedError> pair, compare_pair(name));
        if (pair) {
          errors.push_back(*pair);
        }
      } else if (const auto index = find_tensor(original_, name)) {
        RWKV_ASSIGN(const double error, compare(tensor, *index));
        errors.push_back({name, error});
      }
    }
    return errors;
  }

 private:
  Result<double> compare(const PlannedTensor& tensor, size_t index) const {
    RWKV_ASSIGN(const at::Tensor values, load_named(packed_, tensor.binding.name));
    const at::Tensor flat = values.flatten();
    const uint64_t n = original_.tensors()[index].n_elements();
    const uint64_t block = traits(original_.tensors()[index].dtype).block;
    if (n != static_cast<uint64_t>(flat.numel())) {
      return bad_input("{}: '{}' has {} values, the checkpoint has {}", packed_.path(),
                       tensor.binding.name, flat.numel(), n);
    }
    Sums sums;
    const auto cols = static_cast<int64_t>(tensor.binding.packed_cols());
    const bool is_normed = tensor.binding.role == Role::Embedding && plan_.config.ln0_folded;
    // What ln0 makes of a row is all that the network sees, and all that a folded row still has.
    const auto seen = [&](const at::Tensor& slice) {
      return is_normed ? at::layer_norm(slice.reshape({-1, cols}), {cols}) : slice;
    };
    const uint64_t whole = block * static_cast<uint64_t>(cols);
    const uint64_t step = std::max<uint64_t>(1, kSliceElements / whole) * whole;
    for (uint64_t first = 0; first < n; first += step) {
      const uint64_t here = std::min(step, n - first);
      RWKV_ASSIGN(const at::Tensor theirs, load_f32_range(original_, index, first, here));
      sums.add(seen(theirs.flatten()),
               seen(flat.narrow(0, static_cast<int64_t>(first), static_cast<int64_t>(here))));
    }
    return sums.error();
  }

  // B A, with the diagonal if there is one, against the dense matrix; nothing if the checkpoint
  // has none, or the pair is no linear map.
  Result<std::optional<PackedError>> compare_pair(const std::string& first) const {
    constexpr std::string_view kFirst = "1.weight";
    const std::string stem = first.substr(0, first.size() - std::min(first.size(), kFirst.size()));
    const std::optional<size_t> dense = find_tensor(original_, stem + kWeight);
    if (!dense || plan_.config.low_rank != LowRankForm::Linear) {
      return std::optional<PackedError>();
    }
    RWKV_ASSIGN(const at::Tensor a, load_named(packed_, first));
    RWKV_ASSIGN(const at::Tensor b, load_named(packed_, stem + "2.weight"));
    RWKV_ASSIGN(const at::Tensor original, load_f32(original_, *dense));
    at::Tensor product = at::mm(b, a);
    if (find_tensor(packed_, stem + "_diag")) {
      RWKV_ASSIGN(const at::Tensor diagonal, load_named(packed_, stem + "_diag"));
      product = product + at::diag(diagonal.flatten());
    }
    Sums sums;
    sums.add(original.reshape(product.sizes()), product);
    return std::optional<PackedError>({stem + kWeight, sums.error()});
  }

  const TensorSource& packed_;
  const PackPlan& plan_;
  const TensorSource& original_;
};

}  // namespace

Result<std::vector<PackedError>> packed_errors(const TensorSource& packed, const PackPlan& plan,
                                               const TensorSource& original) {
  const at::NoGradGuard no_grad;
  return Comparison(packed, plan, original).run();
}

}  // namespace rwkv::press
