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
  World,      ///< "rwkv": greedy longest match over bytes (BlinkDL's trie tokenizer)
  Byte,       ///< "byte": id = byte value
  Bpe,        ///< "gpt2": byte-level BPE as in 20B_tokenizer.json (Pile models)
  WordLevel,  ///< "wordlevel": words between white space (models of music, tasks)
};
const char* tokenizer_kind_name(TokenizerKind kind);
/// The inverse; any other name is BadInput.
Result<TokenizerKind> tokenizer_kind_from_name(std::string_view name);

/// What becomes of the parts of a text that a pattern matches: pieces of their own, dropped, joined
/// with matches next to them, or joined with the piece before or after.
enum class SplitBehavior { Isolated, Removed, Contiguous, MergedWithPrevious, MergedWithNext };

/// A cut of text into pieces before BPE ("Split" in tokenizer.json; pre_split.h).
struct SplitRule {
  std::string pattern;
  bool is_regex = true;  ///< or literal text
  SplitBehavior behavior = SplitBehavior::Isolated;
  bool is_inverted = false;  ///< what the pattern does not match is taken for the matches
  bool operator==(const SplitRule&) const = default;
};

struct Vocabulary {
  TokenizerKind kind = TokenizerKind::Byte;
  /// World: the raw bytes of each id, empty for ids that the file does not define (id 0 is the
  /// end-of-text token and has no bytes). Bpe: the token in GPT-2's byte-to-unicode spelling,
  /// added tokens as literal text. WordLevel: words. Byte: empty.
  std::vector<std::string> tokens;
  /// Bpe only: "left right" in order of rank.
  std::vector<std::string> merges;
  /// Bpe and WordLevel: ids of added tokens, matched literally before anything else.
  std::vector<int32_t> added;
  /// Bpe only: text is brought to NFC first.
  bool normalize_nfc = false;
  /// Bpe only: text between added tokens is split by these rules, in order; then, if
  /// `splits_as_gpt2`, as GPT-2 does. `add_prefix_space` puts a space in front of every piece of
  /// the rules that does not begin with one.
  std::vector<SplitRule> splits;
  bool splits_as_gpt2 = true;
  bool add_prefix_space = false;
  /// WordLevel only: the token of words that are in no vocabulary; -1: they are refused.
  int32_t unknown = -1;
  /// WordLevel only: text is brought to lower case first. All words are ASCII then.
  bool lowercase = false;
};

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  virtual TokenizerKind kind() const = 0;
  /// One more than the largest id that encode can return.
  virtual size_t n_vocab() const = 0;
  /// Appends the ids of `text` to `ids`. World and Byte take any bytes. Bpe and WordLevel refuse
  /// text that is not UTF-8 and name the offset of the first bad byte; World does so for a byte
  /// that starts no token.
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

/// Reads `rwkv_vocab_v20230424.txt`-like files, a `tokenizer.json`, or JSON from ids to tokens (as
/// web-rwkv has it), told apart by content. Malformed lines are named by number.
Result<Vocabulary> read_vocabulary_file(const std::string& path);
/// The same from memory; `origin` is used in messages.
Result<Vocabulary> parse_vocabulary(std::string_view content, const std::string& origin);

}  // namespace rwkv
