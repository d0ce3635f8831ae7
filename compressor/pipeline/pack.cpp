#include "compressor/pipeline/pack.h"

#include <algorithm>
#include <filesystem>

#include "compressor/checkpoint/checkpoint_files.h"
#include "compressor/checkpoint/tensor.h"
#include "compressor/model/elementwise.h"
#include "compressor/numerics/tensor_ops.h"
#include "compressor/quantizers/lut_rounding.h"
#include "compressor/stages/packed_form.h"
#include "compressor/stages/shard_codes.h"
#include "formats/arch/finite.h"
#include "formats/base/checksum.h"
#include "formats/base/little_endian.h"
#include "formats/container/packed_keys.h"
#include "formats/container/packed_writer.h"
#include "formats/container/shard_index.h"
#include "formats/tokenizer/chat_template.h"
#include "formats/tokenizer/vocabulary_metadata.h"

namespace rwkv::press {
namespace {

// Elements converted at a time if a codec works row by row: 64 MB as f32.
constexpr uint64_t kSliceElements = uint64_t{16} << 20;

/// The name to store. "None" is what a file without a name means, so it is stored only if someone
/// asked for it.
std::string chat_template_of(const PackOptions& options, const std::string& source_file) {
  if (!options.chat_template.empty() || !options.vocabulary) {
    return options.chat_template;
  }
  const std::string names[] = {options.model_name, source_file};
  const ChatTemplate& suggested =
      chat_template_for(options.vocabulary->kind, options.vocabulary->tokens.size(), names);
  return suggested.stops.empty() ? std::string() : suggested.name;
}

using InSource = std::function<TensorInfo(const TensorBinding& binding)>;

// A tensor as a checkpoint has it, or as stages will make it.
TensorInfo predicted_in(const TensorSource& source, const TensorBinding& binding) {
  if (binding.source < source.tensors().size() &&
      source.tensors()[binding.source].name == binding.name) {
    return source.tensors()[binding.source];
  }
  return {binding.name, DType::F32, binding.shape};
}

// The narrower copies, after the complete tensors, and what the file says of them.
void describe_copies(const PackPlan& plan, PackedFilePlan& file) {
  const PlannedShards& shards = plan.shards;
  if (shards.matrices.empty()) {
    return;
  }
  ShardTable table;
  table.codecs = shards.widths;
  for (const PlannedShards::Matrix& matrix : shards.matrices) {
    table.tensors.push_back(matrix.name);
    table.rows.push_back(matrix.piece_rows);
    table.losses.insert(table.losses.end(), matrix.losses.begin(), matrix.losses.end());
    table.xxh64.insert(table.xxh64.end(), matrix.xxh64.begin(), matrix.xxh64.end());
  }
  put_shard_table(std::move(table), file.config);
  for (const PlannedCopy& copy : copies_of(plan)) {
    const std::vector<uint64_t> shape = {copy.rows, copy.cols};
    file.tensors.push_back(
        {copy.name, copy.codec, shape, {copy.name, DType::F32, shape}, file.tensors.size()});
  }
}

// Without the checkpoint's checksum and the vocabulary. `in_source`: a tensor before it is packed.
PackedFilePlan describe_file(const TensorSource& source, const PackPlan& plan, const Recipe& recipe,
                             const PackOptions& options, const InSource& in_source) {
  PackedFilePlan file;
  file.model_name = options.model_name;
  file.tool_version = options.tool_version;
  file.recipe = recipe.effective_yaml();
  file.seed = recipe.seed;
  file.source_format = source.format();
  file.source_file = std::filesystem::path(source.path()).filename().string();
  file.chat_template = chat_template_of(options, file.source_file);
  config_to_metadata(plan.config, file.config);
  for (const auto& [key, share] : {std::pair{keys::kReadNeurons, plan.shares.neurons},
                                   std::pair{keys::kReadHead, plan.shares.clusters}}) {
    if (share < 1) {
      file.config.set(key, GgufValue::f32(static_cast<float>(share)));
    }
  }
  for (const PlannedTensor& tensor : plan.tensors) {
    const TensorBinding& binding = tensor.binding;
    file.tensors.push_back(
        {binding.name, tensor.codec, binding.packed_shape(), in_source(binding), binding.source});
  }
  describe_copies(plan, file);
  return file;
}

// Encodes `values` (contiguous f32) as a matrix and appends it.
Status append_encoded(GgufWriter& writer, const PlannedTensor& tensor, const at::Tensor& values,
                      uint64_t rows, uint64_t cols, uint64_t first_row) {
  const CodecTraits& codec = codec_traits(tensor.codec);
  std::vector<std::byte> encoded(codec.encoded_bytes(rows, cols));
  const std::span<const float> floats(values.data_ptr<float>(), rows * cols);
  const MatrixShape shape = {
      rows, cols, tensor.binding.layout == Layout::Transposed ? Outputs::Cols : Outputs::Rows,
      first_row};
  RWKV_TRY(encode_on_threads(tensor.codec, floats, shape, encoded)
               .in("tensor '" + tensor.binding.name + "'"));
  return writer.append(encoded);
}

// ln0, to apply to rows of the embedding; undefined if nothing is folded.
Result<LayerNorm> load_fold(const TensorSource& source, const PackPlan& plan) {
  if (!plan.config.ln0_folded) {
    return LayerNorm();
  }
  RWKV_ASSIGN(LayerNorm fold, load_layer_norm(NamedTensors(source), "blocks.0.ln0"));
  // What it spoils would be blamed on the embedding.
  for (const auto& [name, values] :
       {std::pair("blocks.0.ln0.weight", fold.weight), std::pair("blocks.0.ln0.bias", fold.bias)}) {
    const at::Tensor floats = values.contiguous();
    const std::span<const float> all(floats.data_ptr<float>(), static_cast<size_t>(floats.numel()));
    RWKV_TRY(check_values(name, all, all.size()).in(source.path()));
  }
  return fold;
}

// Values of a tensor as the source has them, rows of `cols` from `first_row` on.
Status check_source(const TensorSource& source, const PlannedTensor& tensor,
                    const at::Tensor& values, uint64_t cols, uint64_t first_row) {
  if (tensor.binding.role == Role::Ignored) {
    return {};
  }
  const std::span<const float> all(values.data_ptr<float>(), static_cast<size_t>(values.numel()));
  return check_values(tensor.binding.name, all, cols, first_row).in(source.path());
}

// `values`, with ln0 applied to rows of the embedding if it is folded.
at::Tensor folded(const PlannedTensor& tensor, const LayerNorm& fold, const at::Tensor& values) {
  if (tensor.binding.role != Role::Embedding || !fold.weight.defined()) {
    return values;
  }
  const auto cols = static_cast<int64_t>(tensor.binding.packed_cols());
  return fold.apply(values.reshape({-1, cols})).contiguous();
}

// Codecs without a shared part, of matrices that are not transposed: slices of rows, never the
// whole tensor.
Status pack_sliced(const TensorSource& source, const PlannedTensor& tensor, const LayerNorm& fold,
                   GgufWriter& writer, const std::function<void(uint64_t)>& advance) {
  const uint64_t rows = tensor.binding.packed_rows();
  const uint64_t cols = tensor.binding.packed_cols();
  const uint64_t unit_rows = codec_traits(tensor.codec).unit_rows;
  const uint64_t step = align_up(std::max<uint64_t>(1, kSliceElements / cols), unit_rows);
  for (uint64_t row = 0; row < rows; row += step) {
    const uint64_t n = std::min(step, rows - row);
    RWKV_ASSIGN(at::Tensor values,
                load_f32_range(source, tensor.binding.source, row * cols, n * cols));
    RWKV_TRY(check_source(source, tensor, values, cols, row));
    RWKV_TRY(append_encoded(writer, tensor, folded(tensor, fold, values), n, cols, row));
    advance(n * cols);
  }
  return {};
}

Status pack_whole(const TensorSource& source, const PlannedTensor& tensor, const LayerNorm& fold,
                  GgufWriter& writer, const std::function<void(uint64_t)>& advance) {
  RWKV_ASSIGN(at::Tensor values, load_f32(source, tensor.binding.source));
  RWKV_TRY(check_source(source, tensor, values,
                        tensor.binding.shape.empty() ? 1 : tensor.binding.shape.back(), 0));
  const std::vector<int64_t> shape(tensor.binding.shape.begin(), tensor.binding.shape.end());
  values = values.reshape(shape);
  if (tensor.binding.layout == Layout::Transposed) {
    values = values.transpose(-1, -2);
  }
  values = values.contiguous();
  const uint64_t rows = tensor.binding.packed_rows();
  const uint64_t cols = tensor.binding.packed_cols();
  RWKV_TRY(append_encoded(writer, tensor, folded(tensor, fold, values), rows, cols, 0));
  advance(rows * cols);
  return {};
}

Status pack_copied(const TensorSource& source, const PlannedTensor& tensor, GgufWriter& writer,
                   const std::function<void(uint64_t)>& advance) {
  std::vector<std::byte> codes;
  RWKV_TRY(read_codes(source, tensor.binding.source, codes));
  if (tensor.binding.role != Role::Ignored) {
    const MatrixView w = MatrixView::of(codes.data(), tensor.codec, tensor.binding.packed_rows(),
                                        tensor.binding.packed_cols());
    RWKV_TRY(check_values(tensor.binding.name, w).in(source.path()));
  }
  RWKV_TRY(writer.append(codes));
  advance(tensor.binding.packed_rows() * tensor.binding.packed_cols());
  return {};
}

// Some pieces of a matrix at one width, of the codes that a stage put for all of its rows.
Status pack_copy(const TensorSource& source, const PackPlan& plan, const PlannedCopy& copy,
                 GgufWriter& writer) {
  const auto index = find_tensor(source, copy.name);
  if (!index) {
    return failed("'{}': internal error: there are no codes of it", copy.name);
  }
  const PlannedShards::Matrix& matrix = plan.shards.matrices[copy.matrix];
  std::vector<std::byte> codes;
  RWKV_TRY(read_codes(source, *index, codes));
  return writer.append(codes_of_pieces(codes, copy.codec,
                                       plan.find(matrix.name)->binding.packed_rows(), copy.cols,
                                       matrix.piece_rows, copy.pieces));
}

// Whether the values of a tensor can be packed in slices, if its type in the source allows it.
bool is_sliceable(const PlannedTensor& tensor) {
  return codec_traits(tensor.codec).shared_bytes(1) == 0 && tensor.binding.layout == Layout::AsIs;
}

bool can_slice(const TensorSource& source, const PlannedTensor& tensor) {
  const DTypeTraits& type = traits(source.tensors()[tensor.binding.source].dtype);
  return is_sliceable(tensor) && tensor.binding.packed_cols() % type.block == 0;
}

}  // namespace

Needs pack_needs(const PackPlan& plan, uint64_t source_bytes, bool has_codes) {
  // Operations for each value: of codecs that search for scales, of other lossy ones, of copies.
  constexpr double kOfSearch = 350;
  constexpr double kOfRounding = 20;
  constexpr double kOfCopy = 4;
  Needs needs;
  for (const PlannedTensor& tensor : plan.tensors) {
    const CodecTraits& codec = codec_traits(tensor.codec);
    const uint64_t n = tensor.binding.packed_rows() * tensor.binding.packed_cols();
    const uint64_t at_once = is_sliceable(tensor) ? std::min(n, kSliceElements) : n;
    const uint64_t values = sizeof(float) * at_once;
    // The source's bytes, values, values turned round, codes.
    needs.memory = std::max(needs.memory, values + values + (at_once == n ? values : 0) +
                                              codec.encoded_bytes(1, 64) * at_once / 64);
    const bool is_copied = has_codes && codec.lut != nullptr;
    needs.parallel.loops += static_cast<double>(n) * (is_copied              ? kOfCopy
                                                      : codec.lut != nullptr ? kOfSearch
                                                      : codec.is_lossy       ? kOfRounding
                                                                             : kOfCopy);
    needs.serial.bytes += 4.0 * sizeof(float) * static_cast<double>(n);
    needs.disk += tensor.encoded_bytes();
  }
  needs.disk += copy_bytes(plan);
  needs.files = 2 * source_bytes + needs.disk;
  return needs;
}

PackedSize::PackedSize(const TensorSource& source, const PackOptions& options)
    : source_(source), options_(options) {
  if (options.vocabulary) {
    GgufMetadata vocabulary;
    vocabulary_to_metadata(*options.vocabulary, vocabulary);
    vocabulary_bytes_ = GgufWriter::metadata_bytes(vocabulary);
  }
}

Result<uint64_t> PackedSize::of(const PackPlan& plan, const Recipe& recipe) const {
  const auto in_source = [&](const TensorBinding& binding) {
    return predicted_in(source_, binding);
  };
  return packed_file_bytes(describe_file(source_, plan, recipe, options_, in_source),
                           vocabulary_bytes_);
}

Status pack(const TensorSource& source, const PackPlan& plan, const Recipe& recipe,
            const PackOptions& options) {
  const auto in_source = [&](const TensorBinding& binding) {
    return source.tensors()[binding.source];
  };
  PackedFilePlan file = describe_file(source, plan, recipe, options, in_source);
  RWKV_ASSIGN(file.source_xxh64, checkpoint_xxh64(source.path()));
  if (options.vocabulary) {
    vocabulary_to_metadata(*options.vocabulary, file.vocabulary);
  }
  RWKV_ASSIGN(const auto writer, begin_packed_file(options.output, options.existing, file));
  uint64_t done = 0;
  const auto advance = [&](uint64_t elements) {
    done += elements;
    options.progress(done);
  };
  RWKV_ASSIGN(const LayerNorm fold, load_fold(source, plan));
  for (const PlannedTensor& tensor : plan.tensors) {
    RWKV_TRY(is_in_form(source, tensor.binding.source, tensor, plan.config)
                 ? pack_copied(source, tensor, *writer, advance)
             : can_slice(source, tensor) ? pack_sliced(source, tensor, fold, *writer, advance)
                                         : pack_whole(source, tensor, fold, *writer, advance));
  }
  for (const PlannedCopy& copy : copies_of(plan)) {
    RWKV_TRY(pack_copy(source, plan, copy, *writer));
  }
  return writer->finish();
}

}  // namespace rwkv::press
