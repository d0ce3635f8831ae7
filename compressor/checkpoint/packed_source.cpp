#include "compressor/checkpoint/packed_source.h"

#include <algorithm>
#include <charconv>
#include <numeric>

#include "formats/arch/identify.h"
#include "formats/base/half.h"
#include "formats/base/little_endian.h"
#include "formats/container/packed_keys.h"
#include "formats/container/packed_tensors.h"

namespace rwkv::press {
namespace {

// "3x128" back to numbers; "scalar" is no dimension.
Result<std::vector<uint64_t>> parse_shape(std::string_view text) {
  std::vector<uint64_t> shape;
  if (text == "scalar") {
    return shape;
  }
  const char* at = text.data();
  const char* end = at + text.size();
  while (true) {
    uint64_t dim = 0;
    const auto [next, error] = std::from_chars(at, end, dim);
    if (error != std::errc() || (next != end && *next != 'x')) {
      return bad_input("'{}' is not a shape", text);
    }
    shape.push_back(dim);
    if (next == end) {
      return shape;
    }
    at = next + 1;
  }
}

void store_as(DType dtype, std::span<const float> values, std::byte* out) {
  for (size_t i = 0; i < values.size(); ++i) {
    if (dtype == DType::BF16) {
      store_le(out + 2 * i, f32_to_bf16(values[i]));
    } else if (dtype == DType::F16) {
      store_le(out + 2 * i, f32_to_f16(values[i]));
    } else if (dtype == DType::F64) {
      store_le(out + 8 * i, static_cast<double>(values[i]));
    } else {
      store_le(out + 4 * i, values[i]);
    }
  }
}

// [a, b] or [n, a, b] with the last two swapped back.
std::vector<float> turned(const std::vector<float>& values, uint64_t rows, uint64_t cols,
                          uint64_t inner_rows) {
  std::vector<float> result(values.size());
  for (uint64_t base = 0; base < rows; base += inner_rows) {
    for (uint64_t r = 0; r < inner_rows; ++r) {
      for (uint64_t c = 0; c < cols; ++c) {
        result[base * cols + c * inner_rows + r] = values[(base + r) * cols + c];
      }
    }
  }
  return result;
}

// Predictors and cluster heads are no part of a checkpoint.
bool is_of_a_stage(const TensorBinding& binding) {
  return binding.role == Role::SignBits || binding.role == Role::Predictor ||
         binding.role == Role::ClusterHead || binding.name == "head.tokens" ||
         binding.name.starts_with("head.cluster.") ||
         binding.name.find(".ffn.predictor.") != std::string::npos;
}

class PackedSource final : public TensorSource {
 public:
  PackedSource(std::shared_ptr<InputFile> input) : input_(std::move(input)) {}
  Status load(const GgufFile& file);

  std::string_view format() const override { return "packed"; }
  const std::string& path() const override { return input_->path(); }
  const std::vector<TensorInfo>& tensors() const override { return infos_; }
  Status read(size_t index, std::vector<std::byte>& out) const override;
  std::map<std::string, std::string> metadata() const override {
    return {{"rwkv.low_rank", low_rank_}};
  }

 private:
  struct Entry {
    PackedTensor packed;
    bool is_transposed;
  };
  Status read_values(const PackedTensor& packed, std::vector<float>& values) const;
  Status load_fold(const std::vector<PackedTensor>& packed);
  void unfold(std::vector<float>& rows) const;
  Status load_order(const std::vector<PackedTensor>& packed);
  std::vector<float> in_token_order(const std::vector<float>& rows) const;
  std::shared_ptr<InputFile> input_;
  std::vector<TensorInfo> infos_;
  std::vector<Entry> entries_;
  std::vector<float> ln0_weight_;  ///< empty unless ln0 was folded into the embedding
  std::vector<float> ln0_bias_;
  std::vector<size_t> tokens_;  ///< of each row of a clustered head; else empty
  std::string low_rank_;        ///< the form of factor pairs, which their tensors do not show
};

Status PackedSource::load(const GgufFile& file) {
  RWKV_ASSIGN(const std::vector<PackedTensor> packed, packed_tensors(file));
  RWKV_ASSIGN(const auto* dtypes, file.metadata().get_strings(keys::kSourceDtype));
  RWKV_ASSIGN(const auto* shapes, file.metadata().get_strings(keys::kSourceShape));
  RWKV_ASSIGN(const auto* order, file.metadata().get_u64s(keys::kSourceOrder));
  if (dtypes->size() != packed.size() || shapes->size() != packed.size() ||
      order->size() != packed.size()) {
    return bad_input("{}: the press.source arrays do not match {} tensors", path(), packed.size());
  }
  std::vector<TensorInfo> as_packed;
  for (const PackedTensor& tensor : packed) {
    as_packed.push_back({tensor.name, DType::F32, tensor.shape});
  }
  RWKV_ASSIGN(const Identified model, identify(as_packed, ShapesAre::AsPacked));
  RWKV_ASSIGN(const bool is_folded, file.metadata().get_bool("rwkv.ln0_folded"));
  if (is_folded) {
    RWKV_TRY(load_fold(packed));
  }
  std::vector<bool> transposed(packed.size());
  std::vector<bool> added(packed.size());
  for (const TensorBinding& binding : model.tensors) {
    transposed[binding.source] = binding.layout == Layout::Transposed;
    added[binding.source] = is_of_a_stage(binding);
  }
  RWKV_TRY(load_order(packed));
  RWKV_ASSIGN(low_rank_, file.metadata().get_string("rwkv.low_rank"));
  std::vector<size_t> by_order(packed.size());
  std::iota(by_order.begin(), by_order.end(), size_t{0});
  std::stable_sort(by_order.begin(), by_order.end(),
                   [&](size_t a, size_t b) { return (*order)[a] < (*order)[b]; });
  for (const size_t i : by_order) {
    if (added[i]) {
      continue;
    }
    const DTypeTraits* dtype = find_dtype((*dtypes)[i]);
    auto shape = parse_shape((*shapes)[i]);
    if (!dtype || !dtype->is_float || !shape.ok()) {
      return bad_input("{}: tensor '{}' came as {} {}, which makes no sense", path(),
                       packed[i].name, (*dtypes)[i], (*shapes)[i]);
    }
    TensorInfo info{packed[i].name, dtype->dtype, shape.take()};
    RWKV_TRY(check_tensor_size(info).in(path()));
    if (info.n_elements() != packed[i].rows * packed[i].cols) {
      return bad_input("{}: tensor '{}' came as {} but {} rows of {} are packed", path(), info.name,
                       (*shapes)[i], packed[i].rows, packed[i].cols);
    }
    infos_.push_back(std::move(info));
    entries_.push_back({packed[i], transposed[i]});
  }
  return {};
}

Status PackedSource::read_values(const PackedTensor& packed, std::vector<float>& values) const {
  std::vector<std::byte> encoded(packed.n_bytes);
  RWKV_TRY(input_->read_at(packed.offset, encoded));
  RWKV_TRY(verify_tensor(packed, encoded).in(path()));
  values.resize(packed.rows * packed.cols);
  const MatrixView w = MatrixView::of(encoded.data(), packed.codec, packed.rows, packed.cols);
  codec_traits(packed.codec).decode_rows(w, 0, packed.rows, values);
  return {};
}

Status PackedSource::load_fold(const std::vector<PackedTensor>& packed) {
  for (const PackedTensor& tensor : packed) {
    if (tensor.name == "blocks.0.ln0.weight") {
      RWKV_TRY(read_values(tensor, ln0_weight_));
    } else if (tensor.name == "blocks.0.ln0.bias") {
      RWKV_TRY(read_values(tensor, ln0_bias_));
    }
  }
  return {};
}

// Rows that ln0 maps to the folded ones: what ln0 does last is undone, and since the rest has mean
// 0 and variance 1, ln0 leaves it nearly as it is.
void PackedSource::unfold(std::vector<float>& rows) const {
  const size_t n = ln0_weight_.size();
  for (size_t i = 0; i < rows.size(); ++i) {
    const float weight = ln0_weight_[i % n];
    rows[i] = weight == 0.0f ? 0.0f : (rows[i] - ln0_bias_[i % n]) / weight;
  }
}

Status PackedSource::load_order(const std::vector<PackedTensor>& packed) {
  for (const PackedTensor& tensor : packed) {
    if (tensor.name != "head.tokens") {
      continue;
    }
    std::vector<float> values;
    RWKV_TRY(read_values(tensor, values));
    std::vector<bool> seen(values.size());
    for (const float value : values) {
      const bool fits = value >= 0.0f && value < static_cast<float>(values.size());
      const size_t token = fits ? static_cast<size_t>(value) : 0;
      if (!fits || seen[token]) {
        return bad_input("{}: 'head.tokens' is not an order of {} tokens", path(), values.size());
      }
      seen[token] = true;
      tokens_.push_back(token);
    }
  }
  return {};
}

std::vector<float> PackedSource::in_token_order(const std::vector<float>& rows) const {
  const size_t n = rows.size() / tokens_.size();
  std::vector<float> result(rows.size());
  for (size_t row = 0; row < tokens_.size(); ++row) {
    const auto from = rows.begin() + static_cast<std::ptrdiff_t>(row * n);
    std::copy(from, from + static_cast<std::ptrdiff_t>(n),
              result.begin() + static_cast<std::ptrdiff_t>(tokens_[row] * n));
  }
  return result;
}

Status PackedSource::read(size_t index, std::vector<std::byte>& out) const {
  const auto& [packed, is_transposed] = entries_[index];
  std::vector<float> values;
  RWKV_TRY(read_values(packed, values));
  if (packed.name == "emb.weight" && !ln0_weight_.empty()) {
    unfold(values);
  }
  if (packed.name == "head.weight" && !tokens_.empty()) {
    values = in_token_order(values);
  }
  if (is_transposed) {
    const uint64_t inner = packed.shape[packed.shape.size() - 2];
    values = turned(values, packed.rows, packed.cols, inner);
  }
  out.resize(infos_[index].n_bytes());
  store_as(infos_[index].dtype, values, out.data());
  return {};
}

}  // namespace

Result<std::unique_ptr<TensorSource>> open_packed(std::shared_ptr<InputFile> input,
                                                  const GgufFile& file) {
  auto source = std::make_unique<PackedSource>(std::move(input));
  RWKV_TRY(source->load(file));
  return std::unique_ptr<TensorSource>(std::move(source));
}

}  // namespace rwkv::press
