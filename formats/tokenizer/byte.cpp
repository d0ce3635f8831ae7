// The byte tokenizer: 256 ids, each the byte of its value.
#include <array>

#include "formats/tokenizer/tokenizers.h"

namespace rwkv {

namespace {

class ByteTokenizer : public Tokenizer {
 public:
  ByteTokenizer() {
    for (size_t i = 0; i < bytes_.size(); ++i) {
      bytes_[i] = static_cast<char>(static_cast<unsigned char>(i));
    }
  }
  TokenizerKind kind() const override { return TokenizerKind::Byte; }
  size_t n_vocab() const override { return bytes_.size(); }

  Status encode(std::string_view text, std::vector<int32_t>& ids) const override {
    ids.reserve(ids.size() + text.size());
    for (const char c : text) {
      ids.push_back(static_cast<unsigned char>(c));
    }
    return {};
  }

  std::string_view token_bytes(int32_t id) const override {
    if (id < 0 || id > 255) {
      return {};
    }
    return {&bytes_[static_cast<size_t>(id)], 1};
  }

  size_t memory_bytes() const override { return sizeof(*this); }

 private:
  std::array<char, 256> bytes_;
};

}  // namespace

Result<std::unique_ptr<Tokenizer>> make_byte_tokenizer(const Vocabulary& vocabulary) {
  if (!vocabulary.tokens.empty() || !vocabulary.merges.empty() || !vocabulary.added.empty()) {
    return bad_input("byte vocabulary: expected no tokens and no merges, found {} and {}",
                     vocabulary.tokens.size(), vocabulary.merges.size());
  }
  return std::unique_ptr<Tokenizer>(std::make_unique<ByteTokenizer>());
}

}  // namespace rwkv
