#include "runtime/memory/piece_widths.h"

#include <algorithm>

#include "formats/base/little_endian.h"
#include "formats/container/width_choice.h"

namespace rwkv::edge {
namespace {

// Pieces are this share of all, within bounds: a ring of some of them is small, and each is large
// enough for storage to be fast and for threads to share.
constexpr uint64_t kPiecesOfAll = 256;
constexpr uint64_t kLeastPiece = uint64_t{512} << 10;
constexpr uint64_t kMostPiece = uint64_t{4} << 20;
// Products take rows in multiples of this.
constexpr uint64_t kRowStep = 8;

// Rows [first_row, first_row + n_rows) of a tensor of the file.
PieceSource rows_of(const PackedFile& file, size_t index, uint64_t first_row, uint64_t n_rows) {
  const PackedTensor& tensor = file.tensors[index];
  const CodecTraits& codec = codec_traits(tensor.codec);
  const uint64_t unit = codec.unit_bytes(tensor.cols);
  PieceSource source;
  source.tensor = index;
  source.offset =
      tensor.offset + codec.shared_bytes(tensor.cols) + first_row / codec.unit_rows * unit;
  source.n_bytes = (n_rows + codec.unit_rows - 1) / codec.unit_rows * unit;
  source.view = {nullptr, nullptr, tensor.codec, n_rows, tensor.cols};
  return source;
}

PieceSource version_of(const PackedFile& file, const ShardVersion& version, uint64_t n_rows,
                       uint64_t n_cols) {
  PieceSource source;
  if (version.tensor == ShardVersion::kNothing) {
    source.view.rows = n_rows;  // which are all zero
    source.view.cols = n_cols;
  } else {
    source = rows_of(file, version.tensor, version.first_row, n_rows);
    source.xxh64 = version.xxh64;
    source.has_xxh64 = true;
  }
  source.loss = version.loss;
  return source;
}

void cut(const PackedFile& file, const TensorBinding& binding, uint64_t piece_bytes,
         std::vector<CutPiece>& pieces) {
  const PackedTensor& tensor = file.tensors[binding.source];
  const uint64_t n_pieces = std::max<uint64_t>(1, (tensor.n_bytes + piece_bytes - 1) / piece_bytes);
  const uint64_t rows_at_a_time =
      align_up((tensor.rows + n_pieces - 1) / n_pieces,
               std::max<uint64_t>(kRowStep, codec_traits(tensor.codec).unit_rows));
  for (uint64_t row = 0; row < tensor.rows; row += rows_at_a_time) {
    const uint64_t n = std::min(rows_at_a_time, tensor.rows - row);
    pieces.push_back({&binding, row, n, {rows_of(file, binding.source, row, n)}});
  }
}

void cut_as_told(const PackedFile& file, const TensorBinding& binding, const ShardedMatrix& matrix,
                 std::vector<CutPiece>& pieces) {
  for (const ShardPiece& piece : matrix.pieces) {
    CutPiece& added = pieces.emplace_back(CutPiece{&binding, piece.first_row, piece.n_rows, {}});
    for (const ShardVersion& version : piece.versions) {
      added.versions.push_back(
          version_of(file, version, piece.n_rows, file.tensors[binding.source].cols));
    }
  }
}

bool is_within(const PieceSource& version, double most_bits) {
  return most_bits == 0 || version.n_bytes == 0 ||
         codec_traits(version.view.codec).bits <= most_bits;
}

}  // namespace

std::vector<CutPiece> cut_into_pieces(const PackedFile& file,
                                      std::span<const TensorBinding* const> streamed,
                                      uint64_t piece_bytes) {
  uint64_t all = 0;
  for (const TensorBinding* binding : streamed) {
    all += file.tensors[binding->source].n_bytes;
  }
  if (piece_bytes == 0) {
    piece_bytes = std::clamp(all / kPiecesOfAll, kLeastPiece, kMostPiece);
  }
  std::vector<CutPiece> pieces;
  for (const TensorBinding* binding : streamed) {
    const auto matrix = std::find_if(
        file.shards.begin(), file.shards.end(),
        [&](const ShardedMatrix& candidate) { return candidate.tensor == binding->source; });
    if (matrix == file.shards.end()) {
      cut(file, *binding, piece_bytes, pieces);
    } else {
      cut_as_told(file, *binding, *matrix, pieces);
    }
  }
  return pieces;
}

std::vector<uint32_t> widths_of(std::span<const CutPiece> pieces, const StreamOptions& options,
                                uint64_t bytes) {
  std::vector<uint32_t> widths(pieces.size());
  if (bytes == 0) {
    for (size_t i = 0; i < pieces.size(); ++i) {
      const std::vector<PieceSource>& versions = pieces[i].versions;
      while (!is_within(versions[widths[i]], options.most_bits) &&
             widths[i] + 1 < versions.size() && versions[widths[i] + 1].n_bytes > 0) {
        ++widths[i];
      }
    }
    return widths;
  }
  std::vector<WidthOption> all;
  for (const CutPiece& piece : pieces) {
    for (const PieceSource& version : piece.versions) {
      all.push_back({version.n_bytes, version.loss});
    }
  }
  std::vector<WidthOptions> of_pieces;
  size_t at = 0;
  for (const CutPiece& piece : pieces) {
    of_pieces.push_back(std::span(all).subspan(at, piece.versions.size()));
    at += piece.versions.size();
  }
  return choose_widths(of_pieces, bytes);
}

}  // namespace rwkv::edge
