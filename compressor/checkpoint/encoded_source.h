// Tensors that travel as codes. A source that has encoded tensors, such as a packed file, gives
// their form, and packing a tensor in the same form copies its codes: nothing is rounded twice.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "formats/codec/codec.h"
#include "formats/container/tensor_source.h"

namespace rwkv::press {

/// A tensor as codes: its matrix in a packed file.
struct EncodedForm {
  Codec codec = Codec::F32;
  uint64_t rows = 0;  ///< as packed
  uint64_t cols = 0;
  bool is_transposed = false;  ///< the last two dimensions are swapped against the tensor's shape
  bool has_ln0 = false;        ///< rows of an embedding with ln0 applied

  uint64_t n_bytes() const { return codec_traits(codec).encoded_bytes(rows, cols); }
  bool operator==(const EncodedForm&) const = default;
};

/// A source that may have tensors as codes; read() returns their values.
class EncodedSource : public TensorSource {
 public:
  /// The form of tensor `index`, if it is encoded.
  virtual std::optional<EncodedForm> encoded(size_t index) const = 0;
  /// Replaces `out` by its codes; only for tensors with a form in encoded().
  virtual Status read_encoded(size_t index, std::vector<std::byte>& out) const = 0;
  /// Replaces `out` by the values that tensor `index` had before it was rounded to codes, in its
  /// own shape. False if they are not known: `out` is unspecified.
  virtual Result<bool> read_unrounded(size_t /*index*/, std::vector<float>& /*out*/) const {
    return false;
  }
};

// The same for any source.
std::optional<EncodedForm> encoded_form(const TensorSource& source, size_t index);
Status read_codes(const TensorSource& source, size_t index, std::vector<std::byte>& out);

/// Weight and bias of the norm that was applied to the rows of an embedding; empty: none.
struct FoldedNorm {
  std::vector<float> weight;
  std::vector<float> bias;
};

/// The values of `codes` in the checkpoint's orientation: decoded, ln0 undone, transposed back.
/// `shape` is the tensor's own shape, of as many elements.
std::vector<float> decode_tensor(const EncodedForm& form, std::span<const std::byte> codes,
                                 std::span<const uint64_t> shape, const FoldedNorm& ln0);

/// The values of single rows, ln0 undone, into `out` [rows.size(), form.cols]; for forms with
/// movable rows. `read_codes` gives the codes from an offset on.
Status decode_rows(
    const EncodedForm& form, const FoldedNorm& ln0, std::span<const uint64_t> rows,
    const std::function<Status(uint64_t offset, std::span<std::byte> out)>& read_codes,
    std::span<float> out);

/// Whether rows of this form can be read one by one, and put into another order without decoding
/// them.
bool has_movable_rows(const EncodedForm& form);

/// Codes whose row i is row `rows[i]` of `codes`; for forms with movable rows.
std::vector<std::byte> reordered_rows(const EncodedForm& form, std::span<const std::byte> codes,
                                      std::span<const uint64_t> rows);

}  // namespace rwkv::press
