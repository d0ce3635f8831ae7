// Text to token ids and back. A Vocabulary is the data (as it lies in a packed file or a vocabulary
// file), a Tokenizer is the algorithm over it. All of it works on bytes: text need not be UTF-8.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "formats/base/status.h"

namespace rwkv {

/// All kinds of tokenizers. `tokenizer_kind_name` is the name in metadata and on command lines.
enum class TokenizerKind {
  World,  ///< "rwkv": greedy longest match over bytes (BlinkDL's trie tokenizer)
  Byte,   ///< "byte": id = byte value
  Bpe,    ///< "gpt2": byte-level BPE as in 20B_tokenizer.json (Pile models)
};
const char* tokenizer_kind_name(TokenizerKind kind);
/// The inverse; any other name is BadInput.
Result<TokenizerKind> tokenizer_kind_from_name(std::string_view name);

struct Vocabulary {
  TokenizerKind kind = TokenizerKind::Byte;
  /// World: the raw bytes of each id, empty for ids that the file does not define (id 0 is the
  /// end-of-text token and has no bytes). Bpe: the token in GPT-2's byte-to-unicode spelling,
  /// added tokens as literal text. Byte: empty.
  std::vector<std::string> tokens;
  /// Bpe only: "left right" in order of rank.
  std::vector<std::string> merges;
  /// Bpe only: ids of added tokens, matched literally before anything else.
  std::vector<int32_t> added;
  /// Bpe only: text is brought to NFC first.
  bool normalize_nfc = false;
};

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  virtual TokenizerKind kind() const = 0;
  /// One more than the largest id that encode can return.
  virtual size_t n_vocab() const = 0;
  /// Appends the ids of `text` to `ids`. World and Byte take any bytes. Bpe refuses text that is
  /// not UTF-8 and names the offset of the first bad byte; World does so for a byte that starts no
  /// token.
  virtual Status encode(std::string_view text, std::vector<int32_t>& ids) const = 0;
  /// The bytes of one id; empty for ids without text (end of text, undefined, out of range).
  /// Valid as long as the tokenizer.
  virtual std::string_view token_bytes(int32_t id) const = 0;
  /// Bytes of the tables, allocated capacity included. The same for equal vocabularies.
  virtual size_t memory_bytes() const = 0;
};

/// Concatenated bytes of `ids`; an id outside the vocabulary is BadInput and is named.
Result<std::string> decode(const Tokenizer& tokenizer, const std::vector<int32_t>& ids);

/// Builds the algorithm over `vocabulary`, checking it (duplicate tokens, merges of unknown
/// tokens).
Result<std::unique_ptr<Tokenizer>> make_tokenizer(const Vocabulary& vocabulary);

/// Reads `rwkv_vocab_v20230424.txt`-like files or a `tokenizer.json`, told apart by content.
/// Malformed lines are named by number.
Result<Vocabulary> read_vocabulary_file(const std::string& path);
/// The same from memory; `origin` is used in messages.
Result<Vocabulary> parse_vocabulary(std::string_view content, const std::string& origin);

}  // namespace rwkv
