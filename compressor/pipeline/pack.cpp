#include "compressor/pipeline/pack.h"

#include <algorithm>
#include <filesystem>

#include "compressor/checkpoint/tensor.h"
#include "compressor/numerics/tensor_ops.h"
#include "formats/base/checksum.h"
#include "formats/container/packed_listing.h"
#include "formats/container/packed_writer.h"
#include "formats/tokenizer/vocabulary_metadata.h"

namespace rwkv::press {
namespace {

// Elements converted at a time where a codec works row by row: 64 MB as f32.
constexpr uint64_t kSliceElements = uint64_t{16} << 20;

Result<PackedFilePlan> describe_file(const TensorSource& source, const PackPlan& plan,
                                     const Recipe& recipe, const PackOptions& options) {
  PackedFilePlan file;
  file.model_name = options.model_name;
  file.tool_version = options.tool_version;
  file.recipe = recipe.effective_yaml();
  file.seed = recipe.seed;
  file.source_format = source.format();
  file.source_file = std::filesystem::path(source.path()).filename().string();
  RWKV_ASSIGN(file.source_xxh64, file_xxh64(source.path()));
  config_to_metadata(plan.config, file.config);
  if (options.vocabulary) {
    vocabulary_to_metadata(*options.vocabulary, file.vocabulary);
  }
  for (const PlannedTensor& tensor : plan.tensors) {
    const TensorBinding& binding = tensor.binding;
    file.tensors.push_back({binding.name, tensor.codec, binding.packed_shape(),
                            source.tensors()[binding.source], binding.source});
  }
  return file;
}

// Encodes `values` (contiguous f32) as a matrix and appends it.
Status append_encoded(GgufWriter& writer, const PlannedTensor& tensor, const at::Tensor& values,
                      uint64_t rows, uint64_t cols) {
  const CodecTraits& codec = codec_traits(tensor.codec);
  std::vector<std::byte> encoded(codec.encoded_bytes(rows, cols));
  const std::span<const float> numbers(values.data_ptr<float>(), rows * cols);
  const MatrixShape shape = {
      rows, cols, tensor.binding.layout == Layout::Transposed ? Outputs::Cols : Outputs::Rows};
  RWKV_TRY(codec.encode(numbers, shape, encoded).in("tensor '" + tensor.binding.name + "'"));
  return writer.append(encoded);
}

// ln0, to be applied to rows of the embedding (rwkv.md, "Shared skeleton"); undefined tensors where
// nothing is to be folded.
struct Fold {
  at::Tensor weight;
  at::Tensor bias;
};

Result<Fold> load_fold(const TensorSource& source, const PackPlan& plan) {
  Fold fold;
  if (!plan.config.ln0_folded) {
    return fold;
  }
  for (const PlannedTensor& tensor : plan.tensors) {
    const std::string& name = tensor.binding.name;
    if (name == "blocks.0.ln0.weight" || name == "blocks.0.ln0.bias") {
      RWKV_ASSIGN(at::Tensor values, load_f32(source, tensor.binding.source));
      (name.ends_with("weight") ? fold.weight : fold.bias) = values.reshape({-1});
    }
  }
  return fold;
}

at::Tensor folded(const Fold& fold, const at::Tensor& values, uint64_t cols) {
  constexpr double kLayerNormEps = 1e-5;
  const auto width = static_cast<int64_t>(cols);
  return at::layer_norm(values.reshape({-1, width}), {width}, fold.weight, fold.bias, kLayerNormEps)
      .contiguous();
}

// Row-wise codecs of matrices that are not turned: slices of rows, never the whole tensor.
Status pack_sliced(const TensorSource& source, const PlannedTensor& tensor, const Fold& fold,
                   GgufWriter& writer, const std::function<void(uint64_t)>& advance) {
  const uint64_t rows = tensor.binding.packed_rows();
  const uint64_t cols = tensor.binding.packed_cols();
  const uint64_t step = std::max<uint64_t>(1, kSliceElements / cols);
  for (uint64_t row = 0; row < rows; row += step) {
    const uint64_t n = std::min(step, rows - row);
    RWKV_ASSIGN(at::Tensor values,
                load_f32_range(source, tensor.binding.source, row * cols, n * cols));
    if (tensor.binding.role == Role::Embedding && fold.weight.defined()) {
      values = folded(fold, values, cols);
    }
    RWKV_TRY(append_encoded(writer, tensor, values, n, cols));
    advance(n * cols);
  }
  return {};
}

Status pack_whole(const TensorSource& source, const PlannedTensor& tensor, GgufWriter& writer,
                  const std::function<void(uint64_t)>& advance) {
  RWKV_ASSIGN(at::Tensor values, load_f32(source, tensor.binding.source));
  const std::vector<int64_t> shape(tensor.binding.shape.begin(), tensor.binding.shape.end());
  values = values.reshape(shape);
  if (tensor.binding.layout == Layout::Transposed) {
    values = values.transpose(-1, -2);
  }
  values = values.contiguous();
  const uint64_t rows = tensor.binding.packed_rows();
  const uint64_t cols = tensor.binding.packed_cols();
  RWKV_TRY(append_encoded(writer, tensor, values, rows, cols));
  advance(rows * cols);
  return {};
}

bool can_slice(const TensorSource& source, const PlannedTensor& tensor) {
  const DTypeTraits& type = traits(source.tensors()[tensor.binding.source].dtype);
  return is_listed_by_row(codec_traits(tensor.codec)) && tensor.binding.layout == Layout::AsIs &&
         tensor.binding.packed_cols() % type.block == 0;
}

}  // namespace

Status pack(const TensorSource& source, const PackPlan& plan, const Recipe& recipe,
            const PackOptions& options) {
  RWKV_ASSIGN(const PackedFilePlan file, describe_file(source, plan, recipe, options));
  RWKV_ASSIGN(const auto writer, begin_packed_file(options.output, options.existing, file));
  uint64_t done = 0;
  const auto advance = [&](uint64_t elements) {
    done += elements;
    options.progress(done);
  };
  RWKV_ASSIGN(const Fold fold, load_fold(source, plan));
  for (const PlannedTensor& tensor : plan.tensors) {
    RWKV_TRY(can_slice(source, tensor) ? pack_sliced(source, tensor, fold, *writer, advance)
                                       : pack_whole(source, tensor, *writer, advance));
  }
  return writer->finish();
}

}  // namespace rwkv::press
