#include "formats/container/shard_index.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "formats/base/damaged.h"
#include "formats/base/little_endian.h"
#include "formats/container/packed_keys.h"

namespace rwkv {
namespace {

constexpr char kMark = '@';
constexpr double kAbsent = -1;

class IndexReader {
 public:
  explicit IndexReader(std::span<const PackedTensor> tensors)
      : tensors_(tensors), n_complete_(n_complete_tensors(tensors)) {}
  Result<std::vector<ShardedMatrix>> read(const GgufMetadata& metadata);

 private:
  Status take_codecs(const std::vector<std::string>& names);
  Status cut_rows(const std::vector<std::string>& names, const std::vector<uint64_t>& rows);
  Status take_versions(ShardedMatrix& matrix);
  Result<size_t> copy_of(const PackedTensor& full, const CodecTraits& codec, uint64_t rows);

  std::span<const PackedTensor> tensors_;
  size_t n_complete_;
  std::map<std::string, size_t> by_name_;
  std::vector<const CodecTraits*> codecs_;  // null: left out
  const std::vector<double>* losses_ = nullptr;
  const std::vector<uint64_t>* checksums_ = nullptr;
  std::vector<ShardedMatrix> matrices_;
  size_t next_piece_ = 0;
  size_t n_copies_ = 0;
};

Status IndexReader::take_codecs(const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    const CodecTraits* const codec = name == kLeftOut ? nullptr : find_codec(name);
    const bool follows =
        codecs_.empty() || (codecs_.back() && (!codec || is_narrower(*codec, *codecs_.back())));
    if (!follows || (!codec && name != kLeftOut)) {
      return damaged("{}: expected codecs from wide to narrow, found '{}' at place {}",
                     keys::kShardCodecs, name, codecs_.size());
    }
    codecs_.push_back(codec);
  }
  return {};
}

// The matrices and the rows of their pieces; that of the arrays with an element a piece fit these.
Status IndexReader::cut_rows(const std::vector<std::string>& names,
                             const std::vector<uint64_t>& rows) {
  uint64_t n_pieces = 0;
  for (size_t i = 0; i < names.size() && i < rows.size(); ++i) {
    const auto found = by_name_.find(names[i]);
    const size_t at = found == by_name_.end() ? n_complete_ : found->second;
    if (at >= n_complete_ || (!matrices_.empty() && at <= matrices_.back().tensor) ||
        tensors_[at].shape.size() != 2 || rows[i] == 0 || rows[i] % kShardRowStep != 0) {
      return damaged(
          "{}: expected a matrix of the file in the order of use, and pieces of a "
          "multiple of {} rows, found '{}' and {}",
          keys::kShardTensors, kShardRowStep, names[i], rows[i]);
    }
    matrices_.push_back({at, {}});
    // Rows are fewer than bits of the file: no overflow, and only then memory is taken.
    n_pieces += (tensors_[at].rows - 1) / rows[i] + 1;
  }
  if (rows.size() != names.size() || codecs_.empty() ||
      losses_->size() != n_pieces * codecs_.size() ||
      checksums_->size() != n_pieces * (codecs_.size() + 1)) {
    return damaged(
        "{} matrices in {} pieces at {} widths, but {} numbers of rows, {} losses and "
        "{} checksums",
        names.size(), n_pieces, codecs_.size(), rows.size(), losses_->size(), checksums_->size());
  }
  for (size_t i = 0; i < matrices_.size(); ++i) {
    const uint64_t all = tensors_[matrices_[i].tensor].rows;
    for (uint64_t row = 0; row < all; row += std::min(rows[i], all - row)) {
      matrices_[i].pieces.push_back({row, std::min(rows[i], all - row), {}});
    }
  }
  return {};
}

// The copy of that codec, which must have so many rows.
Result<size_t> IndexReader::copy_of(const PackedTensor& full, const CodecTraits& codec,
                                    uint64_t rows) {
  const std::string name = narrow_copy_name(full.name, codec.name);
  const auto found = by_name_.find(name);
  if (found == by_name_.end()) {
    return damaged("'{}' is missing, expected {} rows of it", name, rows);
  }
  const PackedTensor& copy = tensors_[found->second];
  if ((copy.codec != codec.codec && copy.codec != codec.in_rows) || copy.rows != rows ||
      copy.cols != full.cols || !is_narrower(codec, codec_traits(full.codec))) {
    return damaged("'{}' has {} rows of {} in {}, expected {} rows of {} in {}, less than {}", name,
                   copy.rows, copy.cols, codec_traits(copy.codec).name, rows, full.cols, codec.name,
                   codec_traits(full.codec).name);
  }
  ++n_copies_;
  return found->second;
}

Status IndexReader::take_versions(ShardedMatrix& matrix) {
  const PackedTensor& full = tensors_[matrix.tensor];
  const size_t n = codecs_.size();
  for (size_t p = 0; p < matrix.pieces.size(); ++p) {
    matrix.pieces[p].versions.push_back(
        {matrix.tensor, matrix.pieces[p].first_row, 0, (*checksums_)[(next_piece_ + p) * (n + 1)]});
  }
  for (size_t c = 0; c < n; ++c) {
    uint64_t rows = 0;
    std::vector<ShardVersion*> found;
    for (size_t p = 0; p < matrix.pieces.size(); ++p) {
      ShardPiece& piece = matrix.pieces[p];
      const double loss = (*losses_)[(next_piece_ + p) * n + c];
      if (!std::isfinite(loss) || (loss < 0 && loss != kAbsent)) {
        return damaged("{}: piece {} of '{}' loses {}, expected 0 or more, or -1",
                       keys::kShardLosses, p, full.name, loss);
      }
      if (loss != kAbsent) {
        piece.versions.push_back({ShardVersion::kNothing, codecs_[c] ? rows : 0, loss,
                                  (*checksums_)[(next_piece_ + p) * (n + 1) + 1 + c]});
        found.push_back(&piece.versions.back());
        rows += piece.n_rows;
      }
    }
    if (codecs_[c] && rows > 0) {
      RWKV_ASSIGN(const size_t copy, copy_of(full, *codecs_[c], rows));
      for (ShardVersion* version : found) {
        version->tensor = copy;
      }
    }
  }
  next_piece_ += matrix.pieces.size();
  return {};
}

Result<std::vector<ShardedMatrix>> IndexReader::read(const GgufMetadata& metadata) {
  for (size_t i = 0; i < tensors_.size(); ++i) {
    if (is_narrow_copy(tensors_[i].name) != (i >= n_complete_)) {
      return damaged("tensor '{}' lies after narrower copies of others", tensors_[i].name);
    }
    by_name_.emplace(tensors_[i].name, i);
  }
  if (metadata.contains(keys::kShardTensors)) {
    RWKV_ASSIGN(const auto* names, metadata.get_strings(keys::kShardTensors));
    RWKV_ASSIGN(const auto* rows, metadata.get_u64s(keys::kShardRows));
    RWKV_ASSIGN(const auto* codecs, metadata.get_strings(keys::kShardCodecs));
    RWKV_ASSIGN(checksums_, metadata.get_u64s(keys::kShardXxh64));
    const GgufValue* const losses = metadata.find(keys::kShardLosses);
    losses_ = losses ? std::get_if<std::vector<double>>(&losses->value) : nullptr;
    if (!losses_) {
      return damaged("metadata lacks the floats of '{}'", keys::kShardLosses);
    }
    RWKV_TRY(take_codecs(*codecs));
    RWKV_TRY(cut_rows(*names, *rows));
    for (ShardedMatrix& matrix : matrices_) {
      RWKV_TRY(take_versions(matrix));
    }
  }
  if (n_copies_ != tensors_.size() - n_complete_) {
    return damaged("{} narrower copies of matrices, but '{}' explains {}",
                   tensors_.size() - n_complete_, keys::kShardTensors, n_copies_);
  }
  return std::move(matrices_);
}

}  // namespace

bool is_narrow_copy(std::string_view name) {
  return name.find(kMark) != std::string_view::npos;
}

std::string narrow_copy_name(std::string_view name, std::string_view codec) {
  return std::string(name) + kMark + std::string(codec);
}

size_t n_complete_tensors(std::span<const PackedTensor> tensors) {
  size_t n = 0;
  while (n < tensors.size() && !is_narrow_copy(tensors[n].name)) {
    ++n;
  }
  return n;
}

bool is_narrower(const CodecTraits& narrow, const CodecTraits& full) {
  return narrow.bits < full.bits && narrow.is_lossy && full.is_lossy && !narrow.for_predictors &&
         !full.for_predictors;
}

Result<std::vector<ShardedMatrix>> shard_index(const GgufMetadata& metadata,
                                               std::span<const PackedTensor> tensors) {
  return IndexReader(tensors).read(metadata);
}

void put_shard_table(ShardTable table, GgufMetadata& metadata) {
  metadata.set(keys::kShardTensors, GgufValue::strings(std::move(table.tensors)));
  metadata.set(keys::kShardRows, GgufValue::u64s(std::move(table.rows)));
  metadata.set(keys::kShardCodecs, GgufValue::strings(std::move(table.codecs)));
  metadata.set(keys::kShardLosses, {GgufType::Array, GgufType::F32, std::move(table.losses)});
  metadata.set(keys::kShardXxh64, GgufValue::u64s(std::move(table.xxh64)));
}

}  // namespace rwkv
