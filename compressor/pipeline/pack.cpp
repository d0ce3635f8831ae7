#include "compressor/pipeline/pack.h"

#include <algorithm>
#include <filesystem>

#include "compressor/checkpoint/tensor.h"
#include "formats/base/checksum.h"
#include "formats/container/gguf_writer.h"
#include "formats/container/packed_keys.h"
#include "formats/tokenizer/vocabulary_metadata.h"

namespace rwkv::press {
namespace {

// Elements converted at a time where a codec works row by row: 64 MB as f32.
constexpr uint64_t kSliceElements = uint64_t{16} << 20;
constexpr uint32_t kGgmlQuantizationVersion = 2;

// GGUF's dimensions, innermost first; see CodecTraits::row_bytes and docs/packed_format.md.
std::vector<uint64_t> gguf_dims(const PlannedTensor& tensor) {
  const TensorBinding& binding = tensor.binding;
  const CodecTraits& codec = codec_traits(tensor.codec);
  if (!codec.row_wise) {
    return {tensor.encoded_bytes()};
  }
  std::vector<uint64_t> dims(binding.shape.rbegin(), binding.shape.rend());
  if (binding.layout == Layout::Transposed) {
    std::swap(dims[0], dims[1]);
  }
  dims[0] = codec.ggml == GgmlType::I8 ? codec.row_bytes(dims[0]) : dims[0];
  return dims;
}

Result<GgufMetadata> make_metadata(const TensorSource& source, const PackPlan& plan,
                                   const Recipe& recipe, const PackOptions& options) {
  GgufMetadata metadata;
  metadata.set(keys::kArchitecture, GgufValue::string(keys::kArchitectureName));
  metadata.set(keys::kName, GgufValue::string(options.model_name));
  metadata.set(keys::kFileType, GgufValue::u32(codec_traits(plan.main_codec()).file_type));
  metadata.set(keys::kQuantizationVersion, GgufValue::u32(kGgmlQuantizationVersion));
  metadata.set(keys::kAlignmentKey, GgufValue::u32(keys::kAlignment));
  config_to_metadata(plan.config, metadata);

  metadata.set(keys::kFormat, GgufValue::u32(keys::kFormatVersion));
  metadata.set(keys::kToolVersion, GgufValue::string(options.tool_version));
  metadata.set(keys::kRecipe, GgufValue::string(recipe.effective_yaml()));
  metadata.set(keys::kSeed, GgufValue::u64(recipe.seed));
  metadata.set(keys::kSourceFormat, GgufValue::string(std::string(source.format())));
  metadata.set(keys::kSourceFile,
               GgufValue::string(std::filesystem::path(source.path()).filename().string()));
  RWKV_ASSIGN(const uint64_t checksum, file_xxh64(source.path()));
  metadata.set(keys::kSourceXxh64, GgufValue::u64(checksum));

  std::vector<std::string> codecs, dtypes, shapes;
  std::vector<uint64_t> rows, cols, order;
  for (const PlannedTensor& tensor : plan.tensors) {
    const TensorInfo& info = source.tensors()[tensor.binding.source];
    codecs.emplace_back(codec_traits(tensor.codec).name);
    rows.push_back(tensor.binding.packed_rows());
    cols.push_back(tensor.binding.packed_cols());
    // Blocks cannot be written back as blocks; their decoded numbers are f32.
    dtypes.emplace_back(traits(traits(info.dtype).is_float ? info.dtype : DType::F32).name);
    shapes.push_back(shape_to_string(info.shape));
    order.push_back(tensor.binding.source);
  }
  metadata.set(keys::kTensorCodec, GgufValue::strings(std::move(codecs)));
  metadata.set(keys::kTensorRows, GgufValue::u64s(std::move(rows)));
  metadata.set(keys::kTensorCols, GgufValue::u64s(std::move(cols)));
  metadata.set(keys::kSourceDtype, GgufValue::strings(std::move(dtypes)));
  metadata.set(keys::kSourceShape, GgufValue::strings(std::move(shapes)));
  metadata.set(keys::kSourceOrder, GgufValue::u64s(std::move(order)));
  if (options.vocabulary) {
    vocabulary_to_metadata(*options.vocabulary, metadata);
  }
  return metadata;
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
  return codec_traits(tensor.codec).row_wise && tensor.binding.layout == Layout::AsIs &&
         tensor.binding.packed_cols() % type.block == 0;
}

}  // namespace

Status pack(const TensorSource& source, const PackPlan& plan, const Recipe& recipe,
            const PackOptions& options) {
  std::vector<GgufTensorPlan> tensors;
  for (const PlannedTensor& tensor : plan.tensors) {
    tensors.push_back({tensor.binding.name, codec_traits(tensor.codec).ggml, gguf_dims(tensor),
                       tensor.encoded_bytes()});
  }
  RWKV_ASSIGN(GgufMetadata metadata, make_metadata(source, plan, recipe, options));
  RWKV_ASSIGN(const auto writer, GgufWriter::create(options.output, options.existing,
                                                    std::move(metadata), std::move(tensors)));
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
