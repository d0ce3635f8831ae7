#include "formats/container/packed_writer.h"

#include "formats/container/packed_keys.h"
#include "formats/container/packed_listing.h"

namespace rwkv {
namespace {

constexpr uint32_t kGgmlQuantizationVersion = 2;

// The codec with the most bytes.
Codec main_codec(std::span<const PackedTensorPlan> tensors) {
  Codec main = Codec::F32;
  uint64_t most = 0;
  for (const CodecTraits& codec : codec_list()) {
    uint64_t bytes = 0;
    for (const PackedTensorPlan& tensor : tensors) {
      bytes += tensor.codec == codec.codec ? tensor.n_bytes() : 0;
    }
    if (bytes > most) {
      most = bytes;
      main = codec.codec;
    }
  }
  return main;
}

void add_all(const GgufMetadata& from, GgufMetadata& to) {
  for (const auto& [key, value] : from.entries()) {
    to.set(key, value);
  }
}

// The arrays with one element per tensor; that of the checksums is GgufWriter's.
void add_arrays(std::span<const PackedTensorPlan> tensors, GgufMetadata& metadata) {
  std::vector<std::string> codecs, dtypes, shapes;
  std::vector<uint64_t> rows, cols, order;
  for (const PackedTensorPlan& tensor : tensors) {
    codecs.emplace_back(codec_traits(tensor.codec).name);
    rows.push_back(rows_of_shape(tensor.shape));
    cols.push_back(tensor.shape.back());
    // Blocks cannot be written back as blocks; their decoded values are f32.
    const DTypeTraits& dtype = traits(tensor.source.dtype);
    dtypes.emplace_back(dtype.is_float ? dtype.name : traits(DType::F32).name);
    shapes.push_back(shape_to_string(tensor.source.shape));
    order.push_back(tensor.source_order);
  }
  metadata.set(keys::kTensorCodec, GgufValue::strings(std::move(codecs)));
  metadata.set(keys::kTensorRows, GgufValue::u64s(std::move(rows)));
  metadata.set(keys::kTensorCols, GgufValue::u64s(std::move(cols)));
  metadata.set(keys::kSourceDtype, GgufValue::strings(std::move(dtypes)));
  metadata.set(keys::kSourceShape, GgufValue::strings(std::move(shapes)));
  metadata.set(keys::kSourceOrder, GgufValue::u64s(std::move(order)));
}

GgufMetadata metadata_of(const PackedFilePlan& plan) {
  GgufMetadata metadata;
  metadata.set(keys::kArchitecture, GgufValue::string(keys::kArchitectureName));
  metadata.set(keys::kName, GgufValue::string(plan.model_name));
  metadata.set(keys::kFileType, GgufValue::u32(listed_file_type(main_codec(plan.tensors))));
  metadata.set(keys::kQuantizationVersion, GgufValue::u32(kGgmlQuantizationVersion));
  metadata.set(keys::kAlignmentKey, GgufValue::u32(keys::kAlignment));
  add_all(plan.config, metadata);
  metadata.set(keys::kFormat, GgufValue::u32(keys::kFormatVersion));
  metadata.set(keys::kToolVersion, GgufValue::string(plan.tool_version));
  metadata.set(keys::kRecipe, GgufValue::string(plan.recipe));
  metadata.set(keys::kSeed, GgufValue::u64(plan.seed));
  metadata.set(keys::kSourceFormat, GgufValue::string(plan.source_format));
  metadata.set(keys::kSourceFile, GgufValue::string(plan.source_file));
  metadata.set(keys::kSourceXxh64, GgufValue::u64(plan.source_xxh64));
  if (!plan.chat_template.empty()) {
    metadata.set(keys::kChatTemplate, GgufValue::string(plan.chat_template));
  }
  add_arrays(plan.tensors, metadata);
  add_all(plan.vocabulary, metadata);
  return metadata;
}

std::vector<GgufTensorPlan> tensors_of(const PackedFilePlan& plan) {
  std::vector<GgufTensorPlan> tensors;
  for (const PackedTensorPlan& tensor : plan.tensors) {
    const CodecTraits& codec = codec_traits(tensor.codec);
    tensors.push_back({tensor.name, listed_type(tensor.codec), listed_dims(codec, tensor.shape),
                       tensor.n_bytes()});
  }
  return tensors;
}

}  // namespace

uint64_t PackedTensorPlan::n_bytes() const {
  return codec_traits(codec).encoded_bytes(rows_of_shape(shape), shape.back());
}

Result<std::unique_ptr<GgufWriter>> begin_packed_file(const std::string& path,
                                                      OutputFile::Existing existing,
                                                      const PackedFilePlan& plan) {
  return GgufWriter::create(path, existing, metadata_of(plan), tensors_of(plan));
}

Result<uint64_t> packed_file_bytes(const PackedFilePlan& plan, uint64_t more_metadata) {
  return GgufWriter::file_bytes(metadata_of(plan), tensors_of(plan), more_metadata);
}

}  // namespace rwkv
