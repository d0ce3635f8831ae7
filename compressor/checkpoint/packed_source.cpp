#include "compressor/checkpoint/packed_source.h"

#include <algorithm>
#include <atomic>
#include <charconv>
#include <numeric>

#include "compressor/checkpoint/encoded_source.h"
#include "compressor/checkpoint/write.h"
#include "formats/arch/identify.h"
#include "formats/base/damaged.h"
#include "formats/container/packed_keys.h"
#include "formats/container/packed_tensors.h"
#include "formats/container/shard_index.h"

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

constexpr const char* kEmbedding = "emb.weight";
constexpr const char* kHead = "head.weight";

// Predictors and cluster heads are not part of a checkpoint.
bool is_of_a_stage(const TensorBinding& binding) {
  return binding.role == Role::SignBits || binding.role == Role::Predictor ||
         binding.role == Role::ClusterHead || binding.name == "head.tokens" ||
         binding.name.starts_with("head.cluster.") ||
         binding.name.find(".ffn.predictor.") != std::string::npos;
}

class PackedSource final : public EncodedSource {
 public:
  PackedSource(std::shared_ptr<InputFile> input) : input_(std::move(input)) {}
  Status load(const GgufFile& file);

  std::string_view format() const override { return "packed"; }
  const std::string& path() const override { return input_->path(); }
  const std::vector<TensorInfo>& tensors() const override { return infos_; }
  Status read(size_t index, std::vector<std::byte>& out) const override;
  Status read_range(size_t index, uint64_t offset, std::span<std::byte> out) const override;
  std::optional<EncodedForm> encoded(size_t index) const override;
  Status read_encoded(size_t index, std::vector<std::byte>& out) const override;
  std::map<std::string, std::string> metadata() const override {
    return {{"rwkv.low_rank", low_rank_}, {"rwkv.group_norm_eps", group_norm_eps_}};
  }

 private:
  struct Entry {
    PackedTensor packed;
    EncodedForm form;
    bool is_clustered;  ///< the head, with rows in the order of clusters
  };
  Status read_codes(const PackedTensor& packed, std::vector<std::byte>& codes) const;
  Status read_values(const PackedTensor& packed, std::vector<float>& values) const;
  Status load_ln0(const std::vector<PackedTensor>& packed);
  Status load_order(const std::vector<PackedTensor>& packed);
  std::vector<float> in_token_order(const std::vector<float>& rows) const;
  std::shared_ptr<InputFile> input_;
  std::vector<TensorInfo> infos_;
  std::vector<Entry> entries_;
  std::unique_ptr<std::atomic<bool>[]> is_verified_;  ///< of each: its checksum was compared
  FoldedNorm ln0_;                      ///< empty unless ln0 was folded into the embedding
  std::vector<uint64_t> row_of_token_;  ///< in a clustered head; else empty
  std::string group_norm_eps_;
  std::string low_rank_;  ///< the form of factor pairs, which their tensors do not show
};

Status PackedSource::load(const GgufFile& file) {
  RWKV_ASSIGN(std::vector<PackedTensor> packed, packed_tensors(file));
  RWKV_ASSIGN(const auto* dtypes, file.metadata().get_strings(keys::kSourceDtype));
  RWKV_ASSIGN(const auto* shapes, file.metadata().get_strings(keys::kSourceShape));
  RWKV_ASSIGN(const auto* order, file.metadata().get_u64s(keys::kSourceOrder));
  if (dtypes->size() != packed.size() || shapes->size() != packed.size() ||
      order->size() != packed.size()) {
    return damaged("{}: the press.source arrays do not match {} tensors", path(), packed.size());
  }
  RWKV_TRY(shard_index(file.metadata(), packed).status().in(path()));
  packed.resize(n_complete_tensors(packed));  // a checkpoint has no narrower copies
  std::vector<TensorInfo> as_packed;
  for (const PackedTensor& tensor : packed) {
    as_packed.push_back({tensor.name, DType::F32, tensor.shape});
  }
  RWKV_ASSIGN(const Identified model, identify(as_packed, ShapesAre::AsPacked));
  RWKV_ASSIGN(const bool is_folded, file.metadata().get_bool("rwkv.ln0_folded"));
  if (is_folded) {
    RWKV_TRY(load_ln0(packed));
  }
  std::vector<bool> transposed(packed.size());
  std::vector<bool> added(packed.size());
  for (const TensorBinding& binding : model.tensors) {
    transposed[binding.source] = binding.layout == Layout::Transposed;
    added[binding.source] = is_of_a_stage(binding);
  }
  RWKV_TRY(load_order(packed));
  RWKV_ASSIGN(low_rank_, file.metadata().get_string("rwkv.low_rank"));
  RWKV_ASSIGN(const double eps, file.metadata().get_f64("rwkv.group_norm_eps"));
  if (!(eps > 0 && eps < 1)) {
    return damaged("{}: rwkv.group_norm_eps is {}, expected a value between 0 and 1", path(), eps);
  }
  group_norm_eps_ = fmt::format("{}", static_cast<float>(eps));
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
      return damaged("{}: tensor '{}' came as {} {}; expected a shape of floats", path(),
                     packed[i].name, (*dtypes)[i], (*shapes)[i]);
    }
    TensorInfo info{packed[i].name, dtype->dtype, shape.take()};
    RWKV_TRY(check_tensor_size(info).in(path()));
    if (info.n_elements() != packed[i].rows * packed[i].cols) {
      return damaged("{}: tensor '{}' came as {} but {} rows of {} are packed", path(), info.name,
                     (*shapes)[i], packed[i].rows, packed[i].cols);
    }
    const size_t n_dims = packed[i].shape.size();
    if (transposed[i] &&
        (info.shape.empty() || n_dims < 2 || info.shape.back() != packed[i].shape[n_dims - 2])) {
      return damaged("{}: tensor '{}' came as {}, but {} is packed transposed", path(), info.name,
                     (*shapes)[i], shape_to_string(packed[i].shape));
    }
    const EncodedForm form = {packed[i].codec, packed[i].rows, packed[i].cols, transposed[i],
                              is_folded && info.name == kEmbedding};
    infos_.push_back(std::move(info));
    entries_.push_back({packed[i], form, packed[i].name == kHead && !row_of_token_.empty()});
  }
  is_verified_ = std::make_unique<std::atomic<bool>[]>(entries_.size());
  return {};
}

Status PackedSource::read_codes(const PackedTensor& packed, std::vector<std::byte>& codes) const {
  codes.resize(packed.n_bytes);
  RWKV_TRY(input_->read_at(packed.offset, codes));
  RWKV_TRY(verify_tensor(packed, codes).in(path()));
  const uint64_t n_shared = codec_traits(packed.codec).shared_bytes(packed.cols);
  return check_shared_part(packed, std::span(codes).first(n_shared)).in(path());
}

Status PackedSource::read_values(const PackedTensor& packed, std::vector<float>& values) const {
  std::vector<std::byte> codes;
  RWKV_TRY(read_codes(packed, codes));
  values.resize(packed.rows * packed.cols);
  const MatrixView w = MatrixView::of(codes.data(), packed.codec, packed.rows, packed.cols);
  codec_traits(packed.codec).decode_rows(w, 0, packed.rows, values);
  return {};
}

Status PackedSource::load_ln0(const std::vector<PackedTensor>& packed) {
  for (const PackedTensor& tensor : packed) {
    if (tensor.name == "blocks.0.ln0.weight") {
      RWKV_TRY(read_values(tensor, ln0_.weight));
    } else if (tensor.name == "blocks.0.ln0.bias") {
      RWKV_TRY(read_values(tensor, ln0_.bias));
    }
  }
  return {};
}

Status PackedSource::load_order(const std::vector<PackedTensor>& packed) {
  for (const PackedTensor& tensor : packed) {
    if (tensor.name != "head.tokens") {
      continue;
    }
    std::vector<float> values;
    RWKV_TRY(read_values(tensor, values));
    std::vector<bool> seen(values.size());
    row_of_token_.resize(values.size());
    for (size_t row = 0; row < values.size(); ++row) {
      const float value = values[row];
      const bool fits = value >= 0.0f && value < static_cast<float>(values.size());
      const size_t token = fits ? static_cast<size_t>(value) : 0;
      if (!fits || seen[token]) {
        return damaged("{}: 'head.tokens' is not an order of {} tokens", path(), values.size());
      }
      seen[token] = true;
      row_of_token_[token] = row;
    }
  }
  return {};
}

std::vector<float> PackedSource::in_token_order(const std::vector<float>& rows) const {
  const size_t n = rows.size() / row_of_token_.size();
  std::vector<float> result(rows.size());
  for (size_t token = 0; token < row_of_token_.size(); ++token) {
    const auto from = rows.begin() + static_cast<std::ptrdiff_t>(row_of_token_[token] * n);
    std::copy(from, from + static_cast<std::ptrdiff_t>(n),
              result.begin() + static_cast<std::ptrdiff_t>(token * n));
  }
  return result;
}

Status PackedSource::read(size_t index, std::vector<std::byte>& out) const {
  const Entry& entry = entries_[index];
  std::vector<std::byte> codes;
  RWKV_TRY(read_codes(entry.packed, codes));
  std::vector<float> values = decode_tensor(entry.form, codes, infos_[index].shape, ln0_);
  if (entry.is_clustered) {
    values = in_token_order(values);
  }
  encode_from_f32(infos_[index].dtype, values, out);
  return {};
}

// Decodes the rows that the range touches, alone; the first call for a tensor reads all of it, to
// compare its checksum.
Status PackedSource::read_range(size_t index, uint64_t offset, std::span<std::byte> out) const {
  const Entry& entry = entries_[index];
  if (!has_movable_rows(entry.form)) {
    return TensorSource::read_range(index, offset, out);
  }
  if (!is_verified_[index]) {
    std::vector<std::byte> codes;
    RWKV_TRY(read_codes(entry.packed, codes));
    is_verified_[index] = true;
  }
  const DType dtype = infos_[index].dtype;
  const uint64_t row_bytes = entry.form.cols * traits(dtype).block_bytes;
  const uint64_t first = offset / row_bytes;
  const uint64_t end = (offset + out.size() + row_bytes - 1) / row_bytes;
  std::vector<uint64_t> rows;
  for (uint64_t row = first; row < end; ++row) {
    rows.push_back(entry.is_clustered ? row_of_token_[row] : row);
  }
  std::vector<float> values(rows.size() * entry.form.cols);
  const auto read_part = [&](uint64_t at, std::span<std::byte> codes) {
    return input_->read_at(entry.packed.offset + at, codes);
  };
  RWKV_TRY(decode_rows(entry.form, ln0_, rows, read_part, values));
  std::vector<std::byte> bytes;
  encode_from_f32(dtype, values, bytes);
  std::copy_n(bytes.begin() + static_cast<std::ptrdiff_t>(offset - first * row_bytes), out.size(),
              out.begin());
  return {};
}

std::optional<EncodedForm> PackedSource::encoded(size_t index) const {
  const Entry& entry = entries_[index];
  return entry.is_clustered && !has_movable_rows(entry.form) ? std::nullopt
                                                             : std::optional(entry.form);
}

Status PackedSource::read_encoded(size_t index, std::vector<std::byte>& out) const {
  const Entry& entry = entries_[index];
  RWKV_TRY(read_codes(entry.packed, out));
  if (entry.is_clustered) {
    out = reordered_rows(entry.form, out, row_of_token_);
  }
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
