// Vocabulary files: which kind a file is, and the World kind. The other is tokenizer_json.cpp.
#include <algorithm>
#include <charconv>
#include <optional>
#include <utility>

#include "formats/base/file.h"
#include "formats/tokenizer/byte_trie.h"
#include "formats/tokenizer/escape.h"
#include "formats/tokenizer/python_literal.h"
#include "formats/tokenizer/vocabulary_parsers.h"

namespace rwkv {

namespace {

// World has 1 MiB, 20B 2.4 MiB; the largest tokenizer.json in use have about 35 MiB.
// Every refusal has the same way out.
constexpr const char* kWayOut =
    "take the vocabulary of the model (World models: rwkv_vocab_v20230424.txt)";
constexpr uint64_t kMaxFileBytes = uint64_t{64} << 20;
// Ids may have gaps, but a line of 20 bytes must not allocate half a gigabyte of empty strings.
constexpr size_t kMaxUnusedIds = size_t{1} << 18;

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

/// The number that all of `digits` is; nullopt for anything else or more than `limit`.
std::optional<int64_t> parse_number(std::string_view digits, int64_t limit) {
  int64_t value = 0;
  if (digits.empty() || !is_digit(digits.front())) {
    return std::nullopt;
  }
  const auto [end, error] = std::from_chars(digits.begin(), digits.end(), value);
  if (error != std::errc() || end != digits.end() || value > limit) {
    return std::nullopt;
  }
  return value;
}

Status parse_line(std::string_view line, size_t n_lines, Vocabulary& vocabulary) {
  const size_t first = line.find(' ');
  const size_t last = line.rfind(' ');
  if (first == line.npos || last == first) {
    return bad_input("expected: id 'literal' n_bytes; found \"{}\"",
                     escape_token(line.substr(0, 64)));
  }
  const std::optional<int64_t> id = parse_number(line.substr(0, first), ByteTrie::kMaxId);
  if (!id) {
    return bad_input("expected an id below {}, found \"{}\"", ByteTrie::kMaxId + 1,
                     escape_token(line.substr(0, first).substr(0, 64)));
  }
  Result<std::string> bytes = parse_python_literal(line.substr(first + 1, last - first - 1));
  if (!bytes.ok()) {
    return bytes.status();
  }
  const std::string_view length_field = line.substr(last + 1);
  const std::optional<int64_t> n_bytes =
      parse_number(length_field, static_cast<int64_t>(kMaxFileBytes));
  if (!n_bytes || static_cast<size_t>(*n_bytes) != bytes.value().size()) {
    return bad_input("the literal has {} bytes, but the third field says \"{}\"",
                     bytes.value().size(), escape_token(length_field.substr(0, 64)));
  }
  if (bytes.value().empty() || bytes.value().size() > ByteTrie::kMaxBytes) {
    return bad_input("expected a token of 1 to {} bytes, found {}", ByteTrie::kMaxBytes,
                     bytes.value().size());
  }
  return place_token(vocabulary.tokens, *id, bytes.take(), n_lines);
}

/// Whether `content` starts like a line of a World vocabulary: an id, a space, a literal.
bool looks_like_world(std::string_view content) {
  size_t at = 0;
  while (at < content.size() && is_digit(content[at])) {
    ++at;
  }
  if (at == 0 || at >= content.size() || content[at] != ' ') {
    return false;
  }
  const std::string_view rest = content.substr(at + 1);
  return rest.starts_with('\'') || rest.starts_with('"') || rest.starts_with("b'") ||
         rest.starts_with("b\"");
}

}  // namespace

Status place_token(std::vector<std::string>& tokens, int64_t id, std::string token,
                   size_t n_tokens) {
  if (id < 0 || id > ByteTrie::kMaxId) {
    return bad_input("expected ids from 0 to {}, found {}", ByteTrie::kMaxId, id);
  }
  const auto i = static_cast<size_t>(id);
  if (i >= n_tokens + kMaxUnusedIds) {
    return bad_input("id {} leaves more than {} ids unused, too many for a vocabulary of {} tokens",
                     id, kMaxUnusedIds, n_tokens);
  }
  if (i >= tokens.size()) {
    tokens.resize(i + 1);
  }
  if (!tokens[i].empty()) {
    return bad_input("id {} belongs to \"{}\", found again for \"{}\"", id, escape_token(tokens[i]),
                     escape_token(token));
  }
  tokens[i] = std::move(token);
  return {};
}

Result<Vocabulary> parse_world_vocabulary(std::string_view content) {
  Vocabulary vocabulary;
  vocabulary.kind = TokenizerKind::World;
  const auto n_lines = static_cast<size_t>(std::count(content.begin(), content.end(), '\n')) + 1;
  for (size_t number = 1; !content.empty(); ++number) {
    const size_t newline = content.find('\n');
    std::string_view line = content.substr(0, newline);
    content.remove_prefix(newline == content.npos ? content.size() : newline + 1);
    if (line.ends_with('\r')) {
      line.remove_suffix(1);
    }
    if (line.empty()) {
      continue;
    }
    const Status status = parse_line(line, n_lines, vocabulary);
    if (!status.ok()) {
      return status.in(fmt::format("line {}", number));
    }
  }
  return vocabulary;
}

Result<Vocabulary> parse_vocabulary(std::string_view content, const std::string& origin) {
  if (content.size() > kMaxFileBytes) {
    return bad_input("{}: expected a vocabulary of at most {} bytes, found {}; {}", origin,
                     kMaxFileBytes, content.size(), kWayOut);
  }
  const size_t start = content.find_first_not_of(" \t\r\n");
  Result<Vocabulary> vocabulary = Status();
  if (start != content.npos && content[start] == '{') {
    vocabulary = parse_tokenizer_json(content);
  } else if (start != content.npos && looks_like_world(content.substr(start))) {
    vocabulary = parse_world_vocabulary(content);
  } else {
    return bad_input(
        "{}: expected a vocabulary with lines like 123 'token' 5, or a tokenizer.json, found "
        "\"{}\"; {}",
        origin, escape_token(content.substr(0, 32)), kWayOut);
  }
  return vocabulary.ok() ? std::move(vocabulary)
                         : bad_input("{}: {}; {}", origin, vocabulary.status().message(), kWayOut);
}

Result<Vocabulary> read_vocabulary_file(const std::string& path) {
  RWKV_ASSIGN(const std::string content, read_text_file(path, kMaxFileBytes));
  return parse_vocabulary(content, path);
}

}  // namespace rwkv
