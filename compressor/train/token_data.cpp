#include "compressor/train/token_data.h"

#include <algorithm>
#include <array>
#include <filesystem>

#include "compressor/numerics/random.h"
#include "compressor/numerics/tensor_ops.h"
#include "formats/base/checksum.h"
#include "formats/base/little_endian.h"
#include "formats/container/file_kind.h"

namespace rwkv::press {
namespace {

namespace fs = std::filesystem;

// Text is tokenized in pieces of about this size, cut after a line.
constexpr uint64_t kPieceBytes = uint64_t{1} << 24;
// The file of ids that a text became ends in their XXH64.
constexpr size_t kSealBytes = sizeof(uint64_t);

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

// What the ids of a text depend on.
Result<uint64_t> key_of(const std::string& path, const Vocabulary& vocabulary) {
  StreamingXxh64 hash;
  std::error_code error;
  const std::string stamp =
      fmt::format("{}|{}|{}|{}", fs::absolute(path, error).string(), fs::file_size(path, error),
                  fs::last_write_time(path, error).time_since_epoch().count(),
                  tokenizer_kind_name(vocabulary.kind));
  if (error) {
    return bad_input("{}: {}", path, error.message());
  }
  hash.update(bytes_of(stamp));
  for (const std::string& token : vocabulary.tokens) {
    hash.update(bytes_of(fmt::format("{}:{}", token.size(), token)));
  }
  return hash.digest();
}

bool is_blank(char c) {
  return c == '\n' || c == '\r' || c == '\t' || c == ' ';
}

// The end of the next piece: after the last line end that is followed by text other than a blank,
// so that no token of line ends is cut; without one, before the last character.
size_t cut(std::string_view piece) {
  for (size_t i = piece.size() - 1; i > 0; --i) {
    if (piece[i - 1] == '\n' && !is_blank(piece[i])) {
      return i;
    }
  }
  size_t i = piece.size() - 1;
  while (i > 1 && (static_cast<unsigned char>(piece[i]) & 0xC0) == 0x80) {
    --i;
  }
  return i;
}

Status tokenize_file(const std::string& path, const Tokenizer& tokenizer, bool is_wide,
                     const std::string& output) {
  RWKV_TRY(check_plain_text(path));
  RWKV_ASSIGN(const auto in, InputFile::open(path));
  RWKV_ASSIGN(const auto out, OutputFile::create(output, OutputFile::Existing::Replace));
  std::string piece;
  std::vector<int32_t> ids;
  std::vector<std::byte> raw;
  StreamingXxh64 hash;
  for (uint64_t at = 0; at < in->size();) {
    piece.resize(std::min(kPieceBytes, in->size() - at));
    RWKV_TRY(in->read_at(at, std::as_writable_bytes(std::span(piece.data(), piece.size()))));
    if (at + piece.size() < in->size()) {
      piece.resize(cut(piece));
    }
    at += piece.size();
    ids.clear();
    RWKV_TRY(tokenizer.encode(piece, ids).in(path));
    const size_t width = is_wide ? 4 : 2;
    raw.resize(ids.size() * width);
    for (size_t i = 0; i < ids.size(); ++i) {
      if (is_wide) {
        store_le(raw.data() + i * width, static_cast<uint32_t>(ids[i]));
      } else {
        store_le(raw.data() + i * width, static_cast<uint16_t>(ids[i]));
      }
    }
    RWKV_TRY(out->write(raw));
    hash.update(raw);
  }
  std::array<std::byte, kSealBytes> seal{};
  store_le<uint64_t>(seal.data(), hash.digest());
  RWKV_TRY(out->write(seal));
  return out->commit();
}

// The ids in a file that tokenize_file() wrote; nothing if it is missing or damaged.
std::shared_ptr<MappedFile> open_cached(const std::string& path) {
  auto mapped = MappedFile::open(path);
  if (!mapped.ok() || mapped.value()->bytes().size() < kSealBytes) {
    return nullptr;
  }
  const std::span<const std::byte> bytes = mapped.value()->bytes();
  const std::span<const std::byte> ids = bytes.first(bytes.size() - kSealBytes);
  return load_le<uint64_t>(ids.data() + ids.size()) == xxh64(ids) ? mapped.take() : nullptr;
}

// A well-mixed number for every (seed, index).
uint64_t mixed(uint64_t seed, uint64_t index) {
  return mix64(seed * kGolden + index * 0xd1342543de82ef95u + kGolden);
}

}  // namespace

Result<int32_t> token_named(const char* key, const std::string& text,
                            const std::optional<Vocabulary>& vocabulary) {
  if (!vocabulary) {
    return usage_error("train.{} '{}' needs a vocabulary; name one with --vocab", key, text);
  }
  RWKV_ASSIGN(const auto tokenizer, make_tokenizer(*vocabulary));
  std::vector<int32_t> ids;
  RWKV_TRY(tokenizer->encode(text, ids));
  if (ids.size() != 1) {
    return usage_error("train.{}: expected one token, but '{}' is {} of this vocabulary", key, text,
                       ids.size());
  }
  return ids.front();
}

Result<TokenData> TokenData::open(const std::vector<std::string>& paths,
                                  const std::optional<Vocabulary>& vocabulary, uint64_t n_vocab,
                                  int64_t length, const std::string& cache_folder) {
  TokenData data;
  data.length_ = length;
  data.n_vocab_ = n_vocab;
  if (paths.empty()) {
    return usage_error(
        "there is no training data: name files in train.data, or with --data (convert: "
        "--train-data)");
  }
  for (const std::string& path : paths) {
    RWKV_TRY(data.add(path, vocabulary, cache_folder));
  }
  return data;
}

// The ids of a text, from an earlier training if their file is whole, else anew.
Status TokenData::open_text(const std::string& path, const std::optional<Vocabulary>& vocabulary,
                            const std::string& cache_folder, File& file) const {
  if (!vocabulary) {
    return usage_error("{}: text cannot be split into tokens without a vocabulary: --vocab", path);
  }
  RWKV_ASSIGN(const uint64_t key, key_of(path, *vocabulary));
  file.is_wide = n_vocab_ > 65536;
  const std::string tokens =
      (fs::path(cache_folder) / fmt::format("{}-{:016x}.ids{}", fs::path(path).stem().string(), key,
                                            file.is_wide ? "32" : "16"))
          .string();
  file.mapped = open_cached(tokens);
  if (!file.mapped) {
    RWKV_ASSIGN(const auto tokenizer, make_tokenizer(*vocabulary));
    if (tokenizer->n_vocab() > n_vocab_) {
      return usage_error("the vocabulary has ids up to {}, the model's embedding ends at {}",
                         tokenizer->n_vocab() - 1, n_vocab_ - 1);
    }
    RWKV_TRY(tokenize_file(path, *tokenizer, file.is_wide, tokens));
    RWKV_ASSIGN(file.mapped, MappedFile::open(tokens));
  }
  file.n_bytes = file.mapped->bytes().size() - kSealBytes;
  return {};
}

Status TokenData::add(const std::string& path, const std::optional<Vocabulary>& vocabulary,
                      const std::string& cache_folder) {
  const std::string ending = fs::path(path).extension().string();
  File file;
  if (ending == ".u16" || ending == ".bin" || ending == ".u32") {
    file.is_wide = ending == ".u32";
    RWKV_ASSIGN(file.mapped, MappedFile::open(path));
    file.n_bytes = file.mapped->bytes().size();
  } else {
    RWKV_TRY(open_text(path, vocabulary, cache_folder, file));
  }
  const uint64_t width = file.is_wide ? 4 : 2;
  if (file.n_bytes % width != 0) {
    return bad_input("{}: {} bytes are no whole number of {}-byte ids", path, file.n_bytes, width);
  }
  file.n_tokens = file.n_bytes / width;
  if (file.n_tokens <= static_cast<uint64_t>(length_)) {
    return usage_error(
        "{}: has {} tokens; a sequence of {} and the token after it need {}: give more text or "
        "lower train.length",
        path, file.n_tokens, length_, length_ + 1);
  }
  files_.push_back(std::move(file));
  return {};
}

uint64_t TokenData::n_tokens() const {
  uint64_t n = 0;
  for (const File& file : files_) {
    n += file.n_tokens;
  }
  return n;
}

uint64_t TokenData::fingerprint() const {
  constexpr size_t kEnd = size_t{1} << 20;
  StreamingXxh64 hash;
  for (const File& file : files_) {
    const std::span<const std::byte> bytes = file.mapped->bytes().first(file.n_bytes);
    hash.update(bytes_of(fmt::format("{}|", bytes.size())));
    hash.update(bytes.first(std::min(kEnd, bytes.size())));
    hash.update(bytes.last(std::min(kEnd, bytes.size())));
  }
  return hash.digest();
}

Batch TokenData::empty_batch(int64_t n) const {
  return {at::empty({n, length_}, at::kLong), at::empty({n * length_}, at::kLong)};
}

uint64_t TokenData::id_at(const File& file, uint64_t at) const {
  const std::byte* const bytes = file.mapped->bytes().data();
  return file.is_wide ? load_le<uint32_t>(bytes + at * 4) : load_le<uint16_t>(bytes + at * 2);
}

// The first place from `drawn` on where a sequence may start; after the end of the file, its
// beginning.
uint64_t TokenData::start_from(const File& file, uint64_t drawn) const {
  if (!after_) {
    return drawn;
  }
  while (drawn > 0 && drawn < starts_in(file) && id_at(file, drawn - 1) != *after_) {
    ++drawn;
  }
  return drawn % starts_in(file);
}

Status TokenData::start_after(int32_t id) {
  after_ = static_cast<uint64_t>(id);
  for (const File& file : files_) {
    if (start_from(file, 1) == 0) {
      return usage_error("{}: no token {} that a sequence of {} could start after",
                         file.mapped->path(), id, length_);
    }
  }
  return {};
}

Status TokenData::copy(const File& file, uint64_t start, int64_t* inputs, int64_t* targets) const {
  for (int64_t i = 0; i <= length_; ++i) {
    const uint64_t id = id_at(file, start + static_cast<uint64_t>(i));
    if (id >= n_vocab_) {
      return bad_input("{}: token {} has id {}, the model's vocabulary ends at {}",
                       file.mapped->path(), start + static_cast<uint64_t>(i), id, n_vocab_ - 1);
    }
    if (i < length_) {
      inputs[i] = static_cast<int64_t>(id);
    }
    if (i > 0) {
      targets[i - 1] = static_cast<int64_t>(id);
    }
  }
  return {};
}

Result<Batch> TokenData::sample(uint64_t first, int64_t n, uint64_t seed) const {
  uint64_t n_starts = 0;
  for (const File& file : files_) {
    n_starts += starts_in(file);
  }
  Batch batch = empty_batch(n);
  for (int64_t i = 0; i < n; ++i) {
    uint64_t start = mixed(seed, first + static_cast<uint64_t>(i)) % n_starts;
    size_t f = 0;
    while (start >= starts_in(files_[f])) {
      start -= starts_in(files_[f++]);
    }
    RWKV_TRY(copy(files_[f], start_from(files_[f], start),
                  batch.inputs.data_ptr<int64_t>() + i * length_,
                  batch.targets.data_ptr<int64_t>() + i * length_));
  }
  return batch;
}

uint64_t TokenData::n_pieces() const {
  uint64_t n = 0;
  for (const File& file : files_) {
    n += (file.n_tokens - 1) / static_cast<uint64_t>(length_);
  }
  return n;
}

Result<Batch> TokenData::piece(uint64_t first, int64_t n) const {
  const auto length = static_cast<uint64_t>(length_);
  Batch batch = empty_batch(n);
  for (int64_t i = 0; i < n; ++i) {
    uint64_t index = first + static_cast<uint64_t>(i);
    size_t f = 0;
    while (index >= (files_[f].n_tokens - 1) / length) {
      index -= (files_[f++].n_tokens - 1) / length;
    }
    RWKV_TRY(copy(files_[f], index * length, batch.inputs.data_ptr<int64_t>() + i * length_,
                  batch.targets.data_ptr<int64_t>() + i * length_));
  }
  return batch;
}

}  // namespace rwkv::press
