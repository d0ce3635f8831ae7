// Any bytes as a GGUF file, through all that reads one: the header, our arrays, the decoding of
// what they describe, the model, its configuration and its vocabulary.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "formats/arch/finite.h"
#include "formats/arch/identify.h"
#include "formats/container/gguf_reader.h"
#include "formats/container/packed_tensors.h"
#include "formats/container/shard_index.h"
#include "formats/tokenizer/tokenizer.h"
#include "formats/tokenizer/vocabulary_metadata.h"

using namespace rwkv;

static void require(bool condition) {
  if (!condition) {
    std::abort();
  }
}

// The reader promises that tensors lie in the file and do not overlap.
static void check_tensors(const GgufFile& file, uint64_t n_bytes) {
  for (const GgufTensor& tensor : file.tensors()) {
    require(tensor.offset <= n_bytes && tensor.n_bytes <= n_bytes - tensor.offset);
    require(tensor.n_bytes == tensor.info().n_bytes());
    require(file.find(tensor.name) == &tensor);
  }
}

// Any bytes are values of any type, ggml's blocks included.
static void decode_tensors(const GgufFile& file, std::span<const std::byte> bytes) {
  constexpr uint64_t kMost = uint64_t{1} << 16;
  for (const GgufTensor& tensor : file.tensors()) {
    if (tensor.info().n_elements() <= kMost) {
      std::vector<float> values(tensor.info().n_elements());
      decode_to_f32(tensor.dtype, bytes.subspan(tensor.offset, tensor.n_bytes), values);
      (void)check_values(tensor.name, values, values.size()).ok();
    }
  }
}

// The last row of every piece at every width.
static void read_copies(const std::vector<ShardedMatrix>& matrices,
                        const std::vector<PackedTensor>& tensors,
                        std::span<const std::byte> bytes) {
  for (const ShardedMatrix& matrix : matrices) {
    for (const ShardPiece& piece : matrix.pieces) {
      for (const ShardVersion& version : piece.versions) {
        if (version.tensor == ShardVersion::kNothing) {
          continue;
        }
        const PackedTensor& tensor = tensors[version.tensor];
        std::vector<float> row(tensor.cols);
        const MatrixView w =
            MatrixView::of(bytes.data() + tensor.offset, tensor.codec, tensor.rows, tensor.cols);
        codec_traits(tensor.codec).decode_rows(w, version.first_row + piece.n_rows - 1, 1, row);
      }
    }
  }
}

static void read_packed(const GgufFile& file, std::span<const std::byte> bytes) {
  const auto tensors = packed_tensors(file);
  if (!tensors.ok()) {
    return;
  }
  std::vector<TensorInfo> infos;
  for (const PackedTensor& tensor : tensors.value()) {
    const auto data = bytes.subspan(tensor.offset, tensor.n_bytes);
    (void)verify_tensor(tensor, data).ok();
    // The last row reaches farthest.
    std::vector<float> row(tensor.cols);
    const MatrixView w = MatrixView::of(data.data(), tensor.codec, tensor.rows, tensor.cols);
    codec_traits(tensor.codec).decode_rows(w, tensor.rows - 1, 1, row);
    infos.push_back({tensor.name, DType::F32, tensor.shape});
  }
  const auto shards = shard_index(file.metadata(), tensors.value());
  if (shards.ok()) {
    infos.resize(n_complete_tensors(tensors.value()));
    read_copies(shards.value(), tensors.value(), bytes);
  }
  (void)identify(infos, ShapesAre::AsPacked).ok();
  (void)shard_index(file.metadata(), tensors.value()).ok();
}

static void read_vocabulary(const GgufMetadata& metadata) {
  const auto vocabulary = vocabulary_from_metadata(metadata);
  if (!vocabulary.ok()) {
    return;
  }
  const auto tokenizer = make_tokenizer(vocabulary.value());
  std::vector<int32_t> ids;
  if (tokenizer.ok() && tokenizer.value()->encode("A text, and a second one.", ids).ok()) {
    (void)decode(*tokenizer.value(), ids).ok();
  }
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  const auto parsed = GgufFile::parse(bytes, "input");
  if (!parsed.ok()) {
    return 0;
  }
  const GgufFile& file = parsed.value();
  check_tensors(file, size);
  std::vector<TensorInfo> infos;
  for (const GgufTensor& tensor : file.tensors()) {
    infos.push_back(tensor.info());
  }
  (void)identify(infos, ShapesAre::AsInCheckpoint).ok();
  for (const auto& [key, value] : file.metadata().entries()) {
    // Shown to users, so it must stay on one line for any content.
    require(value_to_string(value).find('\n') == std::string::npos);
    require(file.metadata().find(key) == &value);
  }
  const auto config = config_from_metadata(file.metadata());
  require(!config.ok() || !describe(config.value()).empty());
  decode_tensors(file, bytes);
  read_packed(file, bytes);
  read_vocabulary(file.metadata());
  return 0;
}
