// Packed models of any version, small enough for unit tests, without the compressor: seeded noise
// of plausible size in every tensor of the version's table, laid out as the packer does.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "formats/arch/model_config.h"
#include "formats/codec/codec.h"
#include "formats/tokenizer/tokenizer.h"
#include "tests/support/support.h"

namespace rwkv::test {

enum class TinyVocabulary {
  None,
  Bytes,     ///< id = byte
  World,     ///< end of text, all bytes, a few words, pieces of characters
  Bpe,       ///< <|endoftext|>, all bytes, one merge
  ZeroBased  ///< as World, but id 0 is a word: no token ends a text
};

struct TinyModelOptions {
  Version version = Version::V7;
  /// Linear and ReluSquared with v5.2 are x058 and x059.
  LowRankForm low_rank = LowRankForm::None;
  /// Of matrices; vectors are f32, the architecture's own small matrices f16 (f32 with F32).
  Codec codec = Codec::F32;
  std::optional<Codec> embedding = {};  ///< of the embedding instead
  TinyVocabulary vocabulary = TinyVocabulary::World;
  // Sizes: not powers of two, and more rows than one chunk of the thread pool.
  uint64_t n_layer = 2;
  uint64_t n_embd = 72;
  uint64_t n_head = 3;
  uint64_t dim_ffn = 150;
  uint64_t n_vocab = 300;  ///< more than any of the vocabularies has
  uint64_t low_rank_size = 9;
  uint64_t seed = 1;
  // What stages add: predictors of active neurons, and clusters of the vocabulary (rows of the head
  // in reverse order, clusters of growing size).
  bool sign_predictor = false;
  bool mlp_predictor = false;
  float predictor_threshold = 0.0f;
  uint64_t n_cluster = 0;
  float p_min = 0.95f;
  uint64_t k_min = 1;
  uint64_t k_max = 100;
  bool first_cluster_always = false;
  /// Copies of all pieces of matrices that may have them, from wide to narrow, in pieces of 64
  /// rows; sizes must be multiples of 64 then. A piece loses more nats the narrower it is, the
  /// later the less. Every third one may be left out, too, if `may_leave_out`.
  std::vector<Codec> narrow = {};
  bool may_leave_out = false;
  bool spoils_rows = false;  ///< copies of matrices that are read by row are panels, as is refused
  bool initial_state = false;  ///< v5.2 to v7a: a tuned state in every block
  /// A tensor in f32 whose first value is not a number, as programs once packed it.
  std::string spoiled = {};
};

/// Writes `name` into the folder and returns its path. Throws std::runtime_error.
std::string write_tiny_model(const ScratchFolder& folder, const TinyModelOptions& options = {},
                             std::string_view name = "tiny.gguf");

/// One model of each version, and x058 and x059.
std::vector<TinyModelOptions> all_tiny_models();

/// The vocabulary that such a model carries; an empty Byte vocabulary for None.
Vocabulary tiny_vocabulary(TinyVocabulary kind);

}  // namespace rwkv::test
