#include "compressor/checkpoint/encoded_source.h"

#include <algorithm>

namespace rwkv::press {
namespace {

// [a, b] or [n, a, b] with the last two dimensions swapped back.
std::vector<float> transposed_back(const std::vector<float>& values, uint64_t rows, uint64_t cols,
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

// Rows that ln0 maps to the folded ones: undoes the last step of ln0. The result has mean 0 and
// variance 1, so ln0 hardly changes it.
void undo_norm(const FoldedNorm& norm, std::span<float> rows) {
  const size_t n = norm.weight.size();
  for (size_t i = 0; i < rows.size(); ++i) {
    const float weight = norm.weight[i % n];
    rows[i] = weight == 0.0f ? 0.0f : (rows[i] - norm.bias[i % n]) / weight;
  }
}

}  // namespace

std::optional<EncodedForm> encoded_form(const TensorSource& source, size_t index) {
  const auto* encoded = dynamic_cast<const EncodedSource*>(&source);
  return encoded != nullptr ? encoded->encoded(index) : std::nullopt;
}

Status read_codes(const TensorSource& source, size_t index, std::vector<std::byte>& out) {
  const auto* encoded = dynamic_cast<const EncodedSource*>(&source);
  return encoded != nullptr ? encoded->read_encoded(index, out)
                            : failed("{}: tensor {}: internal error: it is not encoded",
                                     source.path(), source.tensors()[index].name);
}

std::vector<float> decode_tensor(const EncodedForm& form, std::span<const std::byte> codes,
                                 std::span<const uint64_t> shape, const FoldedNorm& ln0) {
  std::vector<float> values(form.rows * form.cols);
  const MatrixView w = MatrixView::of(codes.data(), form.codec, form.rows, form.cols);
  codec_traits(form.codec).decode_rows(w, 0, form.rows, values);
  if (form.has_ln0) {
    undo_norm(ln0, values);
  }
  return form.is_transposed ? transposed_back(values, form.rows, form.cols, shape.back()) : values;
}

Status decode_rows(
    const EncodedForm& form, const FoldedNorm& ln0, std::span<const uint64_t> rows,
    const std::function<Status(uint64_t offset, std::span<std::byte> out)>& read_codes,
    std::span<float> out) {
  const CodecTraits& codec = codec_traits(form.codec);
  std::vector<std::byte> shared(codec.shared_bytes(form.cols));
  if (!shared.empty()) {
    RWKV_TRY(read_codes(0, shared));
  }
  std::vector<std::byte> row(codec.unit_bytes(form.cols));
  const MatrixView w{shared.data(), row.data(), form.codec, 1, form.cols};
  for (size_t i = 0; i < rows.size(); ++i) {
    RWKV_TRY(read_codes(shared.size() + rows[i] * row.size(), row));
    codec.decode_rows(w, 0, 1, out.subspan(i * form.cols, form.cols));
  }
  if (form.has_ln0) {
    undo_norm(ln0, out);
  }
  return {};
}

bool has_movable_rows(const EncodedForm& form) {
  return codec_traits(form.codec).unit_rows == 1 && !form.is_transposed;
}

std::vector<std::byte> reordered_rows(const EncodedForm& form, std::span<const std::byte> codes,
                                      std::span<const uint64_t> rows) {
  const CodecTraits& codec = codec_traits(form.codec);
  const uint64_t shared_bytes = codec.shared_bytes(form.cols);
  const uint64_t row_bytes = codec.unit_bytes(form.cols);
  std::vector<std::byte> result(codes.begin(), codes.end());
  for (size_t i = 0; i < rows.size(); ++i) {
    const auto from = codes.subspan(shared_bytes + rows[i] * row_bytes, row_bytes);
    std::copy(from.begin(), from.end(),
              result.begin() + static_cast<std::ptrdiff_t>(shared_bytes + i * row_bytes));
  }
  return result;
}

}  // namespace rwkv::press
