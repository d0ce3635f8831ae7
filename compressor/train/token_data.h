// Training data: token ids in memory-mapped files. A text is tokenized once, and its ids are kept
// next to the snapshots of the training.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "compressor/train/gradients.h"
#include "formats/base/file.h"
#include "formats/tokenizer/tokenizer.h"

namespace rwkv::press {

/// The id of the one token that the setting train.`key` names by its `text`. Usage if there is no
/// vocabulary, or the text is not one token of it.
Result<int32_t> token_named(const char* key, const std::string& text,
                            const std::optional<Vocabulary>& vocabulary);

class TokenData {
 public:
  /// Opens `paths`: files ending in .u16, .bin (16-bit ids, little-endian, as BlinkDL's and others'
  /// binidx data) or .u32 (32-bit ids) are token files; everything else is text for `vocabulary`,
  /// whose ids go to a file in `cache_folder`, found again as long as text and vocabulary are the
  /// same and its checksum is right. Usage if there is no file, no vocabulary for a text, or a file
  /// shorter than one sequence of `length` tokens and its successor. An id outside `n_vocab` in a
  /// token file is BadInput when it is drawn.
  static Result<TokenData> open(const std::vector<std::string>& paths,
                                const std::optional<Vocabulary>& vocabulary, uint64_t n_vocab,
                                int64_t length, const std::string& cache_folder);

  /// From now on samples start right after a token `id` (the end of a line or document) instead of
  /// anywhere: after the first one that follows the place drawn, or at the beginning of the file.
  /// Usage if no such token in a file is followed by a whole sequence.
  Status start_after(int32_t id);
  uint64_t n_tokens() const;
  /// Identifies data without reading all of it: sizes, beginnings and ends.
  uint64_t fingerprint() const;
  /// Sequences [first, first + n) of the endless stream that `seed` draws: each starts anywhere in
  /// the data with equal probability (but see start_after). Any part of the stream can be drawn
  /// without the part before it.
  Result<Batch> sample(uint64_t first, int64_t n, uint64_t seed) const;
  /// Sequence `index` of the data cut into pieces in order, for validation.
  uint64_t n_pieces() const;
  Result<Batch> piece(uint64_t first, int64_t n) const;

 private:
  struct File {
    std::shared_ptr<MappedFile> mapped;
    uint64_t n_bytes = 0;  ///< of ids
    uint64_t n_tokens = 0;
    bool is_wide = false;  ///< 32-bit ids
  };
  Status add(const std::string& path, const std::optional<Vocabulary>& vocabulary,
             const std::string& cache_folder);
  Status open_text(const std::string& path, const std::optional<Vocabulary>& vocabulary,
                   const std::string& cache_folder, File& file) const;
  uint64_t starts_in(const File& file) const {
    return file.n_tokens - static_cast<uint64_t>(length_);
  }
  uint64_t id_at(const File& file, uint64_t at) const;
  uint64_t start_from(const File& file, uint64_t drawn) const;
  Status copy(const File& file, uint64_t start, int64_t* inputs, int64_t* targets) const;
  Batch empty_batch(int64_t n) const;

  std::vector<File> files_;
  int64_t length_ = 0;
  uint64_t n_vocab_ = 0;
  std::optional<uint64_t> after_;
};

}  // namespace rwkv::press
